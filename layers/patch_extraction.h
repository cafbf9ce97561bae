// Patch extraction (PAtt-Lite, arXiv 2306.09626): a 14 x 14 map becomes 2 x 2 patches.
#pragma once

#include "layers/conv2d.h"

namespace chalk {

// x [N, 14, 14, C] -> [N, 2, 2, C]: two depthwise convolutions that shrink the map by 4 and by 2,
// each followed by a 1x1 convolution that mixes channels, and one more of those.
class PatchExtraction : public Module {
 public:
  explicit PatchExtraction(Index channels)
      : depthwise_conv1(channels, channels, 4, {.stride = 4, .padding = 1, .groups = channels}),
        pointwise_conv1(channels, channels, 1),
        depthwise_conv2(channels, channels, 2, {.stride = 2, .groups = channels}),
        pointwise_conv2(channels, channels, 1),
        conv3(channels, channels, 1) {
    add_module("depthwise_conv1", depthwise_conv1);
    add_module("pointwise_conv1", pointwise_conv1);
    add_module("depthwise_conv2", depthwise_conv2);
    add_module("pointwise_conv2", pointwise_conv2);
    add_module("conv3", conv3);
  }

  Tensor forward(const Tensor& x) override {
    Tensor y = relu(pointwise_conv1(relu(depthwise_conv1(x))));
    y = relu(pointwise_conv2(relu(depthwise_conv2(y))));
    return relu(conv3(y));
  }

  std::string describe() const override { return "PatchExtraction"; }

  Conv2d depthwise_conv1, pointwise_conv1, depthwise_conv2, pointwise_conv2, conv3;
};

}  // namespace chalk
