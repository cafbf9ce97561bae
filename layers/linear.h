// Linear: y = x W + b.
#pragma once

#include "autograd/check.h"
#include "layers/init.h"
#include "layers/module.h"

namespace chalk {

// x [..., in] -> [..., out]. weight [in, out] in memory; files hold PyTorch's [out, in].
class Linear : public Module {
 public:
  Linear(Index in, Index out) {
    check(in >= 1 && out >= 1, "Linear: ", in, " -> ", out, "; both must be at least 1");
    weight = init::fan_in_uniform({in, out}, in);
    bias = init::fan_in_uniform({out}, in);
    add_parameter("weight", weight, {1, 0});
    add_parameter("bias", bias);
  }

  Tensor forward(const Tensor& x) override {
    check(x.dim() >= 1 && x.size(-1) == weight.size(0), "linear: input has the shape ", x.shape(),
          ", its last axis must be ", weight.size(0));
    return matmul(x, weight) + bias;
  }

  std::string describe() const override {
    return "Linear(" + std::to_string(weight.size(0)) + " -> " + std::to_string(weight.size(1)) +
           ")";
  }

  Tensor weight, bias;
};

}  // namespace chalk
