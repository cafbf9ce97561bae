// The registry: every operation of autograd/operations.h, with what its tests need.
//
// A new operation needs an entry here and cases in fixtures/make_operations.py; a test fails for
// any that lacks one. Everything else follows from the entry: values and gradients against
// PyTorch's in float64 and float32, on every device and every rung, a gradient check, errors.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace chalk::testing {

using Tensors = std::vector<Tensor>;

// One call. Its inputs and expected results are in the fixture under "<operation>.<case>".
struct Case {
  std::string name;
  std::function<Tensor(const Tensors&)> function;
};

// A call that must fail, and what its message must contain.
struct ShapeError {
  std::function<void()> call;
  std::vector<std::string> words;
};

struct Operation {
  std::string name;  // "conv2d"; operators share names, so theirs say "operator+(Tensor, double)"
  std::vector<Case> cases;
  std::vector<ShapeError> errors;
  bool differentiable = true;
  bool empty_is_error = false;  // one of the errors is that of an empty tensor
  bool any_type = false;        // it only arranges elements, of whatever type
};

const std::vector<Operation>& registry();

}  // namespace chalk::testing
