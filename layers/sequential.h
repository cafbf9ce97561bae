// Sequential: layers one after the other, named "0", "1", ...
#pragma once

#include <memory>

#include "autograd/check.h"
#include "layers/module.h"

namespace chalk {

//   Sequential mlp;
//   mlp.add<Linear>(2, 64);
//   mlp.add<ReLU>();
//   mlp.add<Linear>(64, 2);
class Sequential : public Module {
 public:
  // Constructs a layer in place, at the end.
  template <typename Layer, typename... Arguments>
  Layer& add(Arguments&&... arguments) {
    auto layer = std::make_unique<Layer>(std::forward<Arguments>(arguments)...);
    Layer& reference = *layer;
    add_module(std::to_string(layers_.size()), reference);
    layers_.push_back(std::move(layer));
    return reference;
  }

  Tensor forward(const Tensor& x) override {
    Tensor y = x;
    for (const std::unique_ptr<Module>& layer : layers_)
      y = (*layer)(y);
    return y;
  }

  std::string describe() const override { return "Sequential"; }
  std::size_t size() const { return layers_.size(); }
  Module& operator[](std::size_t i) {
    check(i < size(), "Sequential: there is no layer ", i, ", there are ", size());
    return *layers_[i];
  }

 private:
  std::vector<std::unique_ptr<Module>> layers_;
};

}  // namespace chalk
