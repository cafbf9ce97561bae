// ResNet-18 (arXiv 1512.03385) with CBAM in every block, cut after a stage.
#pragma once

#include "layers/cbam.h"
#include "layers/norm.h"

namespace chalk {

// relu(CBAM(bn(conv(relu(bn(conv(x)))))) + shortcut(x)): x [N, H, W, in] -> [N, H/s, W/s, out].
class BasicBlock : public Module {
 public:
  BasicBlock(Index in, Index out, Index stride);
  Tensor forward(const Tensor& x) override;
  std::string describe() const override { return "BasicBlock"; }

  Conv2d conv1;
  BatchNorm2d bn1;
  Conv2d conv2;
  BatchNorm2d bn2;
  ChannelAttention ca;
  SpatialAttention sa;
  std::unique_ptr<Sequential> downsample;  // 1x1 convolution and batch norm where shapes change

 private:
  Tensor attend_and_add(const Tensor& y, const Tensor& shortcut);
};

// x [N, H, W, 3] -> [N, H/16, W/16, 256] after three stages: 7x7 convolution with stride 2, batch
// norm, ReLU, 3x3 max pool with stride 2, then per stage two blocks; stage k has 64 * 2^(k-1)
// channels and, from the second on, halves the image.
class ResNet : public Module {
 public:
  explicit ResNet(int stages);
  Tensor forward(const Tensor& x) override;
  std::string describe() const override { return "ResNet"; }

  Conv2d conv1;
  BatchNorm2d bn1;
  std::vector<std::unique_ptr<Sequential>> layers;  // "layer1", "layer2", ...
};

}  // namespace chalk
