// CBAM, the convolutional block attention module (arXiv 1807.06521): a feature map [N, H, W, C]
// is multiplied first by a weight per channel, then by a weight per pixel.
#pragma once

#include "layers/conv2d.h"
#include "layers/sequential.h"
#include "layers/simple.h"

namespace chalk {

// M_c(F) = sigmoid(MLP(average pool(F)) + MLP(max pool(F))), equation 2; returns M_c(F) F. The
// shared MLP, C -> C / reduction -> C, is two 1x1 convolutions.
class ChannelAttention : public Module {
 public:
  explicit ChannelAttention(Index channels, Index reduction = 16)
      : squeeze(fc.add<Conv2d>(channels, hidden(channels, reduction), 1, Conv2dOptions{}, false)),
        excite((fc.add<ReLU>(),
                fc.add<Conv2d>(channels / reduction, channels, 1, Conv2dOptions{}, false))) {
    add_module("fc", fc);
  }

  Tensor forward(const Tensor& x) override {
    return x * sigmoid(fc(global_average_pool(x)) + fc(global_max_pool(x)));
  }

  std::string describe() const override { return "ChannelAttention"; }

  Sequential fc;
  Conv2d &squeeze, &excite;  // its two convolutions, named "fc.0" and "fc.2"

 private:
  static Index hidden(Index channels, Index reduction) {
    check(reduction >= 1 && channels >= reduction, "ChannelAttention: ", channels,
          " channels can't be reduced by ", reduction, "; at least one must be left");
    return channels / reduction;
  }
};

// M_s(F) = sigmoid(conv7x7([mean over channels(F); max over channels(F)])), equation 3; returns
// M_s(F) F.
class SpatialAttention : public Module {
 public:
  SpatialAttention() : conv1(2, 1, 7, {.padding = 3}, false) { add_module("conv1", conv1); }

  Tensor forward(const Tensor& x) override {
    return x * sigmoid(conv1(concatenate({mean(x, {3}, true), max(x, {3}, true)}, 3)));
  }

  std::string describe() const override { return "SpatialAttention"; }

  Conv2d conv1;
};

}  // namespace chalk
