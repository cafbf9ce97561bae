// Initial values of parameters, PyTorch's defaults. All draw from default_generator().
#pragma once

#include <cmath>

#include "autograd/check.h"
#include "autograd/operations.h"

namespace chalk::init {

// U(-bound, bound)
inline Tensor uniform(const Shape& shape, double bound) {
  check(std::isfinite(bound), "init: the bound is ", bound, "; are there no inputs?");
  return (Tensor::rand(shape) * 2.0 - 1.0) * bound;
}

// U(-1/sqrt(fan_in), 1/sqrt(fan_in)): the output's variance does not grow with the number of
// inputs (PyTorch's kaiming_uniform with a = sqrt(5)).
inline Tensor fan_in_uniform(const Shape& shape, Index fan_in) {
  return uniform(shape, 1 / std::sqrt(static_cast<double>(fan_in)));
}

// Glorot & Bengio 2010: keeps the variance of values forward and of gradients backward.
inline Tensor xavier_uniform(const Shape& shape, Index fan_in, Index fan_out) {
  return uniform(shape, std::sqrt(6 / static_cast<double>(fan_in + fan_out)));
}

}  // namespace chalk::init
