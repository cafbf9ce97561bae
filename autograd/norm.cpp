// Batch norm and layer norm.
#include "autograd/norm.h"

#include "autograd/axes.h"
#include "autograd/fusion.h"
#include "autograd/node.h"

namespace chalk {

void check_channels(const char* operation, const Tensor& x,
                    std::initializer_list<const Tensor*> parameters) {
  check_floating(operation, {&x});
  check(x.dim() >= 1, operation, ": the input must have at least one axis");
  for (const Tensor* parameter : parameters) {
    check_floating(operation, {&x, parameter});
    check(parameter->shape() == Shape{x.size(-1)}, operation, ": input has ", x.size(-1),
          " channels, a parameter has the shape ", parameter->shape(), "; input ", x.shape());
  }
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

BatchNormState batch_norm_state(const Tensor& x, Tensor& running_mean, Tensor& running_variance,
                                const BatchNormOptions& options) {
  if (!options.training) return {running_mean, 1.0 / sqrt(running_variance + options.eps)};
  const Index rows = x.numel() / std::max<Index>(x.size(-1), 1);
  check(rows > 1, "batch_norm: training needs more than one value per channel; input ", x.shape());
  Backend& backend = backend_for(x);
  Tensor mean = empty_like(x, {x.size(-1)}), variance = empty_like(mean);
  backend.mean_variance(x, mean, variance);
  const double unbiased = static_cast<double>(rows) / static_cast<double>(rows - 1);
  backend.scale_add(options.momentum, mean, 1 - options.momentum, running_mean);
  backend.scale_add(options.momentum * unbiased, variance, 1 - options.momentum, running_variance);
  return {mean, 1.0 / sqrt(variance + options.eps)};
}

Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor running_mean,
                  Tensor running_variance, const BatchNormOptions& options) {
  check_channels("batch_norm", x, {&gamma, &beta, &running_mean, &running_variance});
  if (options.relu && !fusion_enabled()) {
    BatchNormOptions without_relu = options;
    without_relu.relu = false;
    return relu(batch_norm(x, gamma, beta, running_mean, running_variance, without_relu));
  }
  const BatchNormState state = batch_norm_state(x, running_mean, running_variance, options);
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
  check(x.size(-1) > 0, "layer_norm: the last axis is empty; input ", x.shape());
  const Index rows = x.numel() / x.size(-1);
  Tensor y = empty_like(x), mean = empty_like(x, {rows}), inverse_std = empty_like(x, {rows});
  backend_for(x).layer_norm(x, gamma, beta, eps, y, mean, inverse_std);
  if (should_record({&x, &gamma, &beta}))
    record(y, std::make_shared<LayerNormNode>(x, gamma, mean, inverse_std), {x, gamma, beta});
  return y;
}

}  // namespace chalk
