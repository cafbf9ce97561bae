// Gradient checks: is what backward() computes the derivative of what forward computes?
#pragma once

#include <functional>
#include <string>

#include "autograd/tensor.h"

namespace chalk {

struct GradcheckOptions {
  // Step of the central difference (f(x + h) - f(x - h)) / 2h. Its error is O(h^2) plus the
  // rounding error, about 1e-16 / h: near 1e-10 for functions of ordinary size.
  double step = 1e-6;
  double tolerance = 1e-6;

  // 0: every element of every input. Else that many random directions v over all inputs, checked
  // by the derivative along v: for functions of many variables. If one fails, every element is
  // checked after all, to name the worst.
  int projections = 0;
  std::uint64_t seed = 0;
};

struct GradcheckResult {
  bool passed = true;
  double worst_error = 0;  // the largest relative error seen
  std::string message;     // operation, input, index, both values, relative error; of the worst
};

// Checks d (sum_i c_i f_i) / d input for fixed random c, so every element of the output matters.
// `function` takes the inputs and returns any shape; it must be a pure function of them (no
// dropout with a moving generator). Inputs must be float64; those that require gradients are
// checked. Errors are relative: |a - n| / max(1, |a|, |n|).
using DifferentiableFunction = std::function<Tensor(const std::vector<Tensor>&)>;
GradcheckResult gradcheck(const std::string& name, const DifferentiableFunction& function,
                          const std::vector<Tensor>& inputs, const GradcheckOptions& options = {});

}  // namespace chalk
