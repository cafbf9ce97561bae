// Layers without parameters, for use in a Sequential.
#pragma once

#include <sstream>

#include "autograd/check.h"
#include "layers/module.h"

namespace chalk {

class ReLU : public Module {
 public:
  Tensor forward(const Tensor& x) override { return relu(x); }
  std::string describe() const override { return "ReLU"; }
};

class Tanh : public Module {
 public:
  Tensor forward(const Tensor& x) override { return tanh(x); }
  std::string describe() const override { return "Tanh"; }
};

class Dropout : public Module {
 public:
  explicit Dropout(double p) : p_(p) {
    check(p >= 0 && p < 1, "Dropout: p is ", p, "; it must be at least 0 and less than 1");
  }
  Tensor forward(const Tensor& x) override { return is_training() ? dropout(x, p_) : x; }
  std::string describe() const override {
    std::ostringstream text;
    text << "Dropout(p " << p_ << ")";
    return text.str();
  }

 private:
  double p_;
};

class MaxPool2d : public Module {
 public:
  MaxPool2d(Index kernel, Index stride, Index padding = 0)
      : kernel_(kernel), stride_(stride), padding_(padding) {}
  Tensor forward(const Tensor& x) override { return max_pool2d(x, kernel_, stride_, padding_); }
  std::string describe() const override {
    return "MaxPool2d(kernel " + std::to_string(kernel_) + ", stride " + std::to_string(stride_) +
           ", padding " + std::to_string(padding_) + ")";
  }

 private:
  Index kernel_, stride_, padding_;
};

class GlobalAveragePool : public Module {
 public:
  Tensor forward(const Tensor& x) override { return global_average_pool(x); }
  std::string describe() const override { return "GlobalAveragePool"; }
};

class GlobalMaxPool : public Module {
 public:
  Tensor forward(const Tensor& x) override { return global_max_pool(x); }
  std::string describe() const override { return "GlobalMaxPool"; }
};

}  // namespace chalk
