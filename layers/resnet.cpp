#include "layers/resnet.h"

#include "autograd/backend.h"
#include "autograd/check.h"
#include "autograd/fusion.h"

namespace chalk {

BasicBlock::BasicBlock(Index in, Index out, Index stride)
    : conv1(in, out, 3, {.stride = stride, .padding = 1}, false),
      bn1(out),
      conv2(out, out, 3, {.padding = 1}, false),
      bn2(out),
      ca(out) {
  add_module("conv1", conv1);
  add_module("bn1", bn1);
  add_module("conv2", conv2);
  add_module("bn2", bn2);
  add_module("ca", ca);
  add_module("sa", sa);
  if (stride == 1 && in == out) return;
  downsample = std::make_unique<Sequential>();
  downsample->add<Conv2d>(in, out, 1, Conv2dOptions{.stride = stride}, false);
  downsample->add<BatchNorm2d>(out);
  add_module("downsample", *downsample);
}

Tensor BasicBlock::forward(const Tensor& x) {
  const Tensor shortcut = downsample ? (*downsample)(x) : x;
  Tensor y = bn1.with_relu(conv1(x));
  y = conv2(y);
  if (fusion_enabled()) return attend_and_add(y, shortcut);
  return relu(sa(ca(bn2(y))) + shortcut);
}

// The last line of forward() as one operation.
Tensor BasicBlock::attend_and_add(const Tensor& y, const Tensor& shortcut) {
  const CbamParameters parameters{bn2.weight, bn2.bias, ca.squeeze.weight, ca.excite.weight,
                                  sa.conv1.weight};
  return batch_norm_cbam(y, shortcut, parameters, bn2.running(), bn2.options());
}

ResNet::ResNet(int stages) : conv1(3, 64, 7, {.stride = 2, .padding = 3}, false), bn1(64) {
  check(stages >= 1 && stages <= 4, "ResNet: ", stages, " stages; there are 1 to 4");
  add_module("conv1", conv1);
  add_module("bn1", bn1);
  for (int stage = 1; stage <= stages; ++stage) {
    const Index out = 32 << stage, in = stage == 1 ? out : out / 2;
    Sequential& layer = *layers.emplace_back(std::make_unique<Sequential>());
    layer.add<BasicBlock>(in, out, stage == 1 ? 1 : 2);
    layer.add<BasicBlock>(out, out, 1);
    add_module("layer" + std::to_string(stage), layer);
  }
}

Tensor ResNet::forward(const Tensor& x) {
  Tensor y = bn1.with_max_pool(conv1(x), 3, 2, 1);
  for (const std::unique_ptr<Sequential>& layer : layers)
    y = (*layer)(y);
  return y;
}

}  // namespace chalk
