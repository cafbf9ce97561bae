// Small helpers that operations share: checks, axes, and a tensor seen along one of them.
#pragma once

#include <initializer_list>

#include "autograd/backend.h"
#include "autograd/check.h"
#include "autograd/tensor.h"

namespace chalk {

// An uninitialised tensor of the given shape, with the type and device of `like`.
inline Tensor empty_like(const Tensor& like, Shape shape) {
  return Tensor(std::move(shape), like.dtype(), like.device());
}
inline Tensor empty_like(const Tensor& like) {
  return empty_like(like, like.shape());
}

// What an operation checks first, so that its errors name it: that all of its tensors are defined
// and on one device.
inline void check_tensors(const char* operation, std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* tensor : tensors) {
    check(tensor->defined(), operation,
          ": an undefined tensor was given; grad() is undefined before backward()");
    const Device first = (*tensors.begin())->device();
    check(tensor->device() == first, operation, ": the first tensor is on ", to_string(first),
          ", another on ", to_string(tensor->device()), "; move one by to()");
  }
}

// And that they are of one type, float32 or float64.
inline void check_floating(const char* operation, std::initializer_list<const Tensor*> tensors) {
  check_tensors(operation, tensors);
  const Tensor& first = **tensors.begin();
  check(first.is_floating(), operation, ": works on float32 and float64 tensors, not on ",
        to_string(first.dtype()), "; convert by to()");
  for (const Tensor* tensor : tensors)
    check(tensor->dtype() == first.dtype(), operation, ": the first tensor is ",
          to_string(first.dtype()), ", another ", to_string(tensor->dtype()),
          "; convert one by to()");
}

// From -dim .. dim - 1 to 0 .. dim - 1.
inline Index positive_axis(const char* operation, const Tensor& x, Index axis) {
  const Index positive = axis < 0 ? axis + x.dim() : axis;
  check(positive >= 0 && positive < x.dim(), operation, ": axis ", axis, " of a tensor with shape ",
        x.shape(), "; axes go from ", -x.dim(), " to ", x.dim() - 1);
  return positive;
}

// The elements of a tensor as [outer, length, inner], `length` being the size of the axis.
inline AxisSizes along(const Shape& shape, Index axis) {
  AxisSizes sizes{1, shape[static_cast<std::size_t>(axis)], 1};
  for (Index i = 0; i < static_cast<Index>(shape.size()); ++i) {
    if (i < axis) sizes.outer *= shape[static_cast<std::size_t>(i)];
    if (i > axis) sizes.inner *= shape[static_cast<std::size_t>(i)];
  }
  return sizes;
}

}  // namespace chalk
