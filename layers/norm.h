// Batch norm and layer norm with their parameters.
#pragma once

#include "autograd/backend.h"
#include "autograd/check.h"
#include "layers/module.h"

namespace chalk {

// The shape of a parameter with a number for each channel, of which there must be some.
inline Shape by_channel(const char* layer, Index channels) {
  check(channels >= 1, layer, ": ", channels, " channels; there must be at least 1");
  return {channels};
}

// Over the channels of x [..., channels]; see batch_norm(). In evaluation mode it uses the
// running statistics that training collected.
class BatchNorm2d : public Module {
 public:
  explicit BatchNorm2d(Index channels)
      : weight(Tensor::ones(by_channel("BatchNorm2d", channels))),
        bias(Tensor::zeros({channels})),
        running_mean(Tensor::zeros({channels})),
        running_var(Tensor::ones({channels})),
        num_batches_tracked(Tensor::zeros({}, DType::int64)) {
    add_parameter("weight", weight);
    add_parameter("bias", bias);
    add_buffer("running_mean", running_mean);
    add_buffer("running_var", running_var);
    add_buffer("num_batches_tracked", num_batches_tracked);
  }

  Tensor forward(const Tensor& x) override {
    return batch_norm(x, weight, bias, running(), options());
  }

  // relu(batch norm(x)), in one pass over x unless fusion is off.
  Tensor with_relu(const Tensor& x) {
    ErrorScope scope(name());
    BatchNormOptions fused = options();
    fused.relu = true;
    return batch_norm(x, weight, bias, running(), fused);
  }

  // max_pool2d(relu(batch norm(x)), kernel, stride, padding), likewise; x [N, H, W, channels].
  Tensor with_max_pool(const Tensor& x, Index kernel, Index stride, Index padding) {
    ErrorScope scope(name());
    return batch_norm_max_pool2d(x, weight, bias, running(), kernel, stride, padding, options());
  }

  // What the functions of operations.h need to know.
  RunningStatistics running() const { return {running_mean, running_var, num_batches_tracked}; }
  BatchNormOptions options() const { return {.training = is_training()}; }

  std::string describe() const override {
    return "BatchNorm2d(" + std::to_string(weight.size(0)) + ")";
  }

  Tensor weight, bias;  // gamma and beta of the paper
  Tensor running_mean, running_var, num_batches_tracked;
};

// Over the last axis; see layer_norm().
class LayerNorm : public Module {
 public:
  explicit LayerNorm(Index size)
      : weight(Tensor::ones(by_channel("LayerNorm", size))), bias(Tensor::zeros({size})) {
    add_parameter("weight", weight);
    add_parameter("bias", bias);
  }

  Tensor forward(const Tensor& x) override { return layer_norm(x, weight, bias); }

  std::string describe() const override {
    return "LayerNorm(" + std::to_string(weight.size(0)) + ")";
  }

  Tensor weight, bias;
};

}  // namespace chalk
