// The elements of tensors on a CUDA device, as kernels get them. The host can't follow these
// pointers.
#pragma once

#include "autograd/tensor.h"

namespace chalk::cuda {

template <typename E>
const E* in(const Tensor& x) {
  return static_cast<const E*>(x.storage()->data());
}

// Counts as a change of the elements, like Tensor::mutable_data().
template <typename E>
E* out(Tensor& y) {
  ++y.storage()->version;
  return static_cast<E*>(y.storage()->data());
}

// nullptr for an undefined tensor.
template <typename E>
E* out_if_defined(Tensor& y) {
  return y.defined() ? out<E>(y) : nullptr;
}

}  // namespace chalk::cuda
