// Conv2d: a convolution with its weights.
#pragma once

#include <sstream>

#include "autograd/check.h"
#include "layers/init.h"
#include "layers/module.h"

namespace chalk {

// x [N, H, W, in] -> [N, H', W', out]. weight [kernel, kernel, in / groups, out] in memory; files
// hold PyTorch's [out, in / groups, kernel, kernel].
class Conv2d : public Module {
 public:
  Conv2d(Index in, Index out, Index kernel, const Conv2dOptions& options = {},
         bool with_bias = true)
      : options_(options) {
    check(in >= 1 && out >= 1 && kernel >= 1 && options.stride >= 1 && options.padding >= 0,
          "Conv2d: ", in, " -> ", out, " channels, kernel ", kernel, ", stride ", options.stride,
          ", padding ", options.padding, "; the padding must be at least 0, all others at least 1");
    const Index groups = options.groups;
    check(groups >= 1 && in % groups == 0 && out % groups == 0, "Conv2d: ", in, " -> ", out,
          " channels can't be divided into ", groups, " groups");
    const Shape shape = {kernel, kernel, in / groups, out};
    const Index fan_in = element_count(shape) / out;
    weight = init::fan_in_uniform(shape, fan_in);
    add_parameter("weight", weight, {3, 2, 0, 1});
    if (!with_bias) return;
    bias = init::fan_in_uniform({out}, fan_in);
    add_parameter("bias", bias);
  }

  Tensor forward(const Tensor& x) override { return conv2d(x, weight, bias, options_); }

  std::string describe() const override {
    std::ostringstream text;
    text << "Conv2d(" << weight.size(2) * options_.groups << " -> " << weight.size(3) << ", kernel "
         << weight.size(0) << "x" << weight.size(1) << ", stride " << options_.stride
         << ", padding " << options_.padding;
    if (options_.groups > 1) text << ", groups " << options_.groups;
    text << ")";
    return text.str();
  }

  Tensor weight, bias;  // bias is undefined where the layer has none

 private:
  Conv2dOptions options_;
};

}  // namespace chalk
