// Batch norm and layer norm.
#include "autograd/norm.h"

#include <algorithm>
#include <cmath>

#include "autograd/axes.h"
#include "autograd/fusion.h"
#include "autograd/node.h"

namespace chalk {

// Throws Error unless every parameter is [channels of x] and of x's type.
static void check_channels(const char* operation, const Tensor& x,
                           std::initializer_list<const Tensor*> parameters) {
  check_floating(operation, {&x});
  check(x.dim() >= 1, operation, ": the input must have at least one axis");
  for (const Tensor* parameter : parameters) {
    check_floating(operation, {&x, parameter});
    check(parameter->shape() == Shape{x.size(-1)}, operation, ": input has ", x.size(-1),
          " channels, a parameter has the shape ", parameter->shape(), "; input ", x.shape());
  }
}

static void check_eps(const char* operation, double eps) {
  check(eps >= 0 && std::isfinite(eps), operation, ": eps is ", eps, "; it must be at least 0");
}

// ---- batch norm ----

// z = (x - mean) s with s = 1 / sqrt(variance + eps);  y = gamma z + beta. Over the n rows:
//   dgamma = sum(dy z),  dbeta = sum(dy).
// In evaluation mean and s are constants:  dx = gamma s dy.
// In training they depend on every x. With g = gamma dy,  d mean / d x = 1 / n  and
// d s / d x = -s^2 z / n:
//   dx = s (g - sum(g) / n - z sum(g z) / n)
//      = gamma s (dy - dbeta / n - z dgamma / n).
// The gradient loses its mean and its part along z: what x's shift and scale can't change.
// With a ReLU behind it, dy counts as 0 where y was cut off; the backward pass finds these places
// from x again, so that y need not be kept.
struct BatchNormNode final : Node {
  Saved input, gamma, beta, mean, inverse_std;
  bool training, relu;
  BatchNormNode(const Tensor& input, const Tensor& gamma, const Tensor& beta,
                const BatchNormState& state, const BatchNormOptions& options)
      : Node("batch_norm"),
        input(input),
        gamma(gamma),
        beta(beta),
        mean(state.mean),
        inverse_std(state.inverse_std),
        training(options.training),
        relu(options.relu) {}

  Gradients backward(const Tensor& grad_output) override {
    Tensor grad_input = empty_like(grad_output);
    Tensor grad_gamma = empty_like(gamma.get()), grad_beta = empty_like(beta.get());
    backend_for(grad_output)
        .batch_norm_backward(input.get(), {mean.get(), inverse_std.get()}, gamma.get(), beta.get(),
                             relu, training, grad_output, grad_input, grad_gamma, grad_beta);
    return {grad_input, grad_gamma, grad_beta};
  }
};

void check_batch_norm(const char* operation, const Tensor& x, const Tensor& gamma,
                      const Tensor& beta, const RunningStatistics& running,
                      const BatchNormOptions& options) {
  check_channels(operation, x, {&gamma, &beta, &running.mean, &running.variance});
  check_eps(operation, options.eps);
  check(options.momentum >= 0 && options.momentum <= 1, operation, ": momentum is ",
        options.momentum, "; it must be 0 to 1");
  if (!running.batches.defined()) return;
  check_tensors(operation, {&x, &running.batches});
  check(running.batches.shape().empty() && running.batches.dtype() == DType::int64, operation,
        ": the number of batches must be an int64 scalar, not ", to_string(running.batches.dtype()),
        " ", running.batches.shape());
}

BatchNormState batch_norm_state(const Tensor& x, RunningStatistics& running,
                                const BatchNormOptions& options) {
  const Index rows = x.numel() / std::max<Index>(x.size(-1), 1);
  check(rows > 1 || !options.training,
        "batch_norm: training needs more than one value per channel; input ", x.shape());
  BatchNormState state{options.training ? empty_like(running.mean) : running.mean,
                       empty_like(running.mean)};
  backend_for(x).batch_norm_statistics(x, options.training, options.momentum, options.eps, running,
                                       state);
  return state;
}

Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                  RunningStatistics running, const BatchNormOptions& options) {
  check_batch_norm("batch_norm", x, gamma, beta, running, options);
  if (options.relu && !fusion_enabled()) {
    BatchNormOptions without_relu = options;
    without_relu.relu = false;
    return relu(batch_norm(x, gamma, beta, running, without_relu));
  }
  const BatchNormState state = batch_norm_state(x, running, options);
  Tensor y = empty_like(x);
  backend_for(x).batch_norm(x, state, gamma, beta, options.relu, y);
  if (should_record({&x, &gamma, &beta}))
    record(y, std::make_shared<BatchNormNode>(x, gamma, beta, state, options), {x, gamma, beta});
  return y;
}

// ---- layer norm ----

// The same with rows and columns exchanged: mean and s belong to a row, sums run along it, while
// gamma and beta, one a column, collect over the rows. With g = gamma dy:
//   dx = s (g - mean(g) - z mean(g z)),  dgamma = sum over rows(dy z),  dbeta = sum over rows(dy).
struct LayerNormNode final : Node {
  Saved input, gamma, mean, inverse_std;
  LayerNormNode(const Tensor& input, const Tensor& gamma, const Tensor& mean,
                const Tensor& inverse_std)
      : Node("layer_norm"), input(input), gamma(gamma), mean(mean), inverse_std(inverse_std) {}

  Gradients backward(const Tensor& grad_output) override {
    Tensor grad_input = empty_like(grad_output);
    Tensor grad_gamma = empty_like(gamma.get()), grad_beta = empty_like(gamma.get());
    backend_for(grad_output)
        .layer_norm_backward(input.get(), mean.get(), inverse_std.get(), gamma.get(), grad_output,
                             grad_input, grad_gamma, grad_beta);
    return {grad_input, grad_gamma, grad_beta};
  }
};

Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps) {
  check_channels("layer_norm", x, {&gamma, &beta});
  check_eps("layer_norm", eps);
  check(x.size(-1) > 0, "layer_norm: the last axis is empty; input ", x.shape());
  const Index rows = x.numel() / x.size(-1);
  Tensor y = empty_like(x), mean = empty_like(x, {rows}), inverse_std = empty_like(x, {rows});
  backend_for(x).layer_norm(x, gamma, beta, eps, y, mean, inverse_std);
  if (should_record({&x, &gamma, &beta}))
    record(y, std::make_shared<LayerNormNode>(x, gamma, mean, inverse_std), {x, gamma, beta});
  return y;
}

}  // namespace chalk
