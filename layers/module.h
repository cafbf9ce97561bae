// Module: a part of a network that owns parameters and gives them names.
//
//   class Classifier : public Module {
//    public:
//     Classifier() : hidden(256, 64), output(64, 7) {
//       add_module("hidden", hidden);
//       add_module("output", output);
//     }
//     Tensor forward(const Tensor& x) override { return output(relu(hidden(x))); }
//     Linear hidden, output;
//   };
//
// The parts are plain members, so a debugger shows `classifier.hidden.weight`; the registered
// names make the paths of PyTorch's state_dict ("hidden.weight") and of error messages.
#pragma once

#include <iosfwd>
#include <map>
#include <string>
#include <vector>

#include "autograd/operations.h"

namespace chalk {

// Parameters and buffers by name, in PyTorch's layout (convolutions [out, in, height, width]):
// what weight files hold.
using StateDict = std::map<std::string, Tensor>;

class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;  // members refer to each other
  Module& operator=(const Module&) = delete;

  // Computes the output; errors inside begin with this module's path.
  Tensor operator()(const Tensor& x);

  virtual Tensor forward(const Tensor& x) = 0;

  // "Conv2d(3 -> 64, kernel 7x7, stride 2, padding 3)"
  virtual std::string describe() const = 0;

  // Training mode (the default) or evaluation mode, for this module and all its parts.
  void train(bool training = true);
  void eval() { train(false); }
  bool is_training() const { return training_; }

  // All parameters of this module and its parts, in the order of registration. As handles: a
  // change of their elements changes the module.
  struct Named {
    std::string name;
    Tensor tensor;
    std::vector<Index> file_axes;  // memory layout -> file layout, as for permute; {}: the same
  };
  std::vector<Named> named_parameters() const;
  std::vector<Named> named_buffers() const;
  std::vector<Tensor> parameters() const;
  std::vector<Tensor> tensors() const;  // parameters and buffers
  Index parameter_count() const;
  void zero_grad();

  // Converts floating parameters and buffers in place.
  void to(DType dtype);
  void to(Device device);

  // Copies, in PyTorch's names and layout.
  StateDict state_dict() const;

  // Takes over all values. Throws Error, and changes nothing, unless the names and shapes are
  // exactly this module's; the message lists what is missing, unexpected or mis-shaped.
  void load_state_dict(const StateDict& state);

  // The module as a tree, a line per part, with shapes and numbers of parameters.
  friend std::ostream& operator<<(std::ostream& out, const Module& module);

 protected:
  // Names are distinct and have no dots: those stand between them in paths. `file_axes` is empty or
  // has every axis once.
  void add_parameter(const std::string& name, Tensor& tensor, std::vector<Index> file_axes = {});
  void add_buffer(const std::string& name, const Tensor& tensor);

  // `child` must be a member of this module or live as long. With an empty name its own names
  // appear at this module's level. Throws Error where this module is a part of the child.
  void add_module(const std::string& name, Module& child);

  // The last part of the path, for an ErrorScope in what computes beside forward().
  const std::string& name() const { return name_; }

 private:
  struct Child {
    std::string name;
    Module* module;
  };
  void check_name(const char* function, const std::string& name) const;
  bool contains(const Module& part) const;
  void collect(const std::string& prefix, std::vector<Named> Module::*list,
               std::vector<Named>& all) const;
  void print(const std::string& name, int depth, std::ostream& out) const;

  std::string name_;  // the last part of the path
  std::vector<Named> parameters_, buffers_;
  std::vector<Child> children_;
  bool training_ = true;
};

}  // namespace chalk
