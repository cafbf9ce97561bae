// The two ends of a ResNet's blocks, each as one operation: how an image comes in, and how a
// residual block goes out (composed in layers/resnet.cpp).
#include "autograd/axes.h"
#include "autograd/fusion.h"
#include "autograd/node.h"
#include "autograd/norm.h"

namespace chalk {

// ---- batch norm, ReLU, max pool ----

// The derivation stands beside the kernel, in cpu/fused_stem.cpp.
struct BatchNormMaxPool2dNode final : Node {
  Pool2dSizes sizes;
  Saved input, gamma, beta, mean, inverse_std;
  Tensor winner, position;
  bool training;
  BatchNormMaxPool2dNode(const Pool2dSizes& sizes, const Tensor& input, const Tensor& gamma,
                         const Tensor& beta, const BatchNormState& state, const Tensor& winner,
                         const Tensor& position, bool training)
      : Node("batch_norm_max_pool2d"),
        sizes(sizes),
        input(input),
        gamma(gamma),
        beta(beta),
        mean(state.mean),
        inverse_std(state.inverse_std),
        winner(winner),
        position(position),
        training(training) {}

  Gradients backward(const Tensor& grad_output) override {
    Tensor grad_input = empty_like(input.get());
    Tensor grad_gamma = empty_like(gamma.get()), grad_beta = empty_like(beta.get());
    backend_for(grad_output)
        .batch_norm_max_pool2d_backward(sizes, input.get(), {mean.get(), inverse_std.get()},
                                        gamma.get(), beta.get(), training, winner, position,
                                        grad_output, grad_input, grad_gamma, grad_beta);
    return {grad_input, grad_gamma, grad_beta};
  }
};

Tensor batch_norm_max_pool2d(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                             RunningStatistics running, Index kernel, Index stride, Index padding,
                             const BatchNormOptions& options) {
  const char* name = "batch_norm_max_pool2d";
  const Pool2dSizes sizes = max_pool2d_sizes(name, x, kernel, stride, padding);
  check_batch_norm(name, x, gamma, beta, running, options);
  if (!fusion_enabled()) {
    const Tensor y = relu(batch_norm(x, gamma, beta, running, options));
    return max_pool2d(y, kernel, stride, padding);
  }
  const BatchNormState state = batch_norm_state(x, running, options);
  Tensor y = empty_like(x, {sizes.batch, sizes.out_height(), sizes.out_width(), sizes.channels});
  Tensor winner, position;
  const bool recorded = should_record({&x, &gamma, &beta});
  if (recorded) {
    winner = empty_like(y);
    position = Tensor(y.shape(), DType::uint8, x.device());
  }
  backend_for(x).batch_norm_max_pool2d(sizes, x, state, gamma, beta, y, winner, position);
  if (recorded)
    record(y,
           std::make_shared<BatchNormMaxPool2dNode>(sizes, x, gamma, beta, state, winner, position,
                                                    options.training),
           {x, gamma, beta});
  return y;
}

// ---- batch norm, CBAM, residual, ReLU ----

// The derivation stands beside the kernel, in cpu/fused_cbam.cpp.
struct BatchNormCbamNode final : Node {
  CbamSizes sizes;
  Saved input, output, mean, inverse_std, gamma, beta, w1, w2, w7;
  CbamState state;
  bool training;
  BatchNormCbamNode(const CbamSizes& sizes, const Tensor& input, const Tensor& output,
                    const BatchNormState& norm, const CbamParameters& parameters,
                    const CbamState& state, bool training)
      : Node("batch_norm_cbam"),
        sizes(sizes),
        input(input),
        output(output),
        mean(norm.mean),
        inverse_std(norm.inverse_std),
        gamma(parameters.gamma),
        beta(parameters.beta),
        w1(parameters.w1),
        w2(parameters.w2),
        w7(parameters.w7),
        state(state),
        training(training) {}

  Gradients backward(const Tensor& grad_output) override {
    const CbamParameters parameters{gamma.get(), beta.get(), w1.get(), w2.get(), w7.get()};
    Tensor grad_input = empty_like(grad_output), grad_residual = empty_like(grad_output);
    CbamParameters d{empty_like(gamma.get()), empty_like(beta.get()), empty_like(w1.get()),
                     empty_like(w2.get()), empty_like(w7.get())};
    backend_for(grad_output)
        .batch_norm_cbam_backward(sizes, input.get(), {mean.get(), inverse_std.get()}, parameters,
                                  training, output.get(), state, grad_output, grad_input,
                                  grad_residual, d);
    return {grad_input, grad_residual, d.gamma, d.beta, d.w1, d.w2, d.w7};
  }
};

static CbamSizes checked_sizes(const Tensor& x, const CbamParameters& p, const Tensor& residual) {
  check_floating("batch_norm_cbam", {&x, &residual, &p.gamma, &p.beta, &p.w1, &p.w2, &p.w7});
  check(x.dim() == 4 && residual.shape() == x.shape(), "batch_norm_cbam: input ", x.shape(),
        ", residual ", residual.shape(), "; both must be [batch, height, width, channels]");
  check(p.w1.dim() == 4 && p.w1.size(2) == x.size(3), "batch_norm_cbam: input has ", x.size(3),
        " channels, w1 has the shape ", p.w1.shape());
  const Index channels = x.size(3), hidden = p.w1.size(3);
  check(p.w1.shape() == Shape{1, 1, channels, hidden} &&
            p.w2.shape() == Shape{1, 1, hidden, channels} && p.w7.shape() == Shape{7, 7, 2, 1} &&
            p.gamma.shape() == Shape{channels} && p.beta.shape() == Shape{channels},
        "batch_norm_cbam: w1 ", p.w1.shape(), ", w2 ", p.w2.shape(), ", w7 ", p.w7.shape(),
        ", gamma ", p.gamma.shape(), ", beta ", p.beta.shape(), "; expected [1, 1, ", channels,
        ", hidden], [1, 1, hidden, ", channels, "], [7, 7, 2, 1], [", channels, "], [", channels,
        "]");
  return {x.size(0), x.size(1), x.size(2), channels, hidden};
}

static Tensor composed_cbam(const Tensor& x, const Tensor& residual, const CbamParameters& p,
                            const RunningStatistics& running, const BatchNormOptions& options) {
  const Tensor u = batch_norm(x, p.gamma, p.beta, running, options);
  const auto mlp = [&p](const Tensor& pooled) { return conv2d(relu(conv2d(pooled, p.w1)), p.w2); };
  const Tensor v = u * sigmoid(mlp(global_average_pool(u)) + mlp(global_max_pool(u)));
  const Tensor maps = concatenate({mean(v, {3}, true), max(v, {3}, true)}, 3);
  return relu(v * sigmoid(conv2d(maps, p.w7, {}, {.padding = 3})) + residual);
}

Tensor batch_norm_cbam(const Tensor& x, const Tensor& residual, const CbamParameters& parameters,
                       RunningStatistics running, const BatchNormOptions& options) {
  const CbamSizes sizes = checked_sizes(x, parameters, residual);
  check_batch_norm("batch_norm_cbam", x, parameters.gamma, parameters.beta, running, options);
  check(x.numel() > 0, "batch_norm_cbam: the input is empty, shape ", x.shape());
  if (!fusion_enabled()) return composed_cbam(x, residual, parameters, running, options);
  const BatchNormState norm = batch_norm_state(x, running, options);
  const Shape by_pixel = {sizes.batch, sizes.pixels()}, by_channel = {sizes.batch, sizes.channels};
  CbamState state{empty_like(x, {sizes.batch, 2, sizes.channels}),
                  Tensor(by_channel, DType::int64, x.device()),
                  empty_like(x, by_channel),
                  empty_like(x, {sizes.batch, 2, sizes.pixels()}),
                  Tensor(by_pixel, DType::int64, x.device()),
                  empty_like(x, by_pixel)};
  Tensor y = empty_like(x);
  backend_for(x).batch_norm_cbam(sizes, x, norm, parameters, residual, y, state);
  const std::vector<Tensor> inputs = {
      x, residual, parameters.gamma, parameters.beta, parameters.w1, parameters.w2, parameters.w7};
  if (should_record(inputs))
    record(
        y,
        std::make_shared<BatchNormCbamNode>(sizes, x, y, norm, parameters, state, options.training),
        inputs);
  return y;
}

}  // namespace chalk
