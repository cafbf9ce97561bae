// Conv2d: a convolution with its weights.
#pragma once

#include <sstream>

#include "layers/init.h"
#include "layers/module.h"

namespace chalk {

// x [N, H, W, in] -> [N, H', W', out]. weight [kernel, kernel, in / groups, out] in memory; files
// hold PyTorch's [out, in / groups, kernel, kernel].
class Conv2d : public Module {
 public:
  Conv2d(Index in, Index out, Index kernel, const Conv2dOptions& options = {},
         bool with_bias = true)
      : weight(init::fan_in_uniform({kernel, kernel, in / options.groups, out},
                                    kernel * kernel * in / options.groups)),
        options_(options) {
    add_parameter("weight", weight, {3, 2, 0, 1});
    if (!with_bias) return;
    bias = init::fan_in_uniform({out}, kernel * kernel * in / options.groups);
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
