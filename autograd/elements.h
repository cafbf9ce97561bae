// What the kernels of every backend have in common: how they see the shapes of tensors, and the
// conversion of an element.
#pragma once

#include <limits>
#include <type_traits>
#include <vector>

#include "autograd/shape.h"

namespace chalk {

// One axis of y, and how far a and b move along it: a step of 0 repeats the same elements.
struct BroadcastAxis {
  Index size, a_step, b_step;
};

// The axes of y with their steps. Neighbouring axes that behave as one are merged, so that
// [32, 56, 56, 64] and [64] become [100352, 64] with steps (64, 0) and (1, 1), and equal shapes
// a single axis. Never empty.
inline std::vector<BroadcastAxis> broadcast_axes(const Shape& a, const Shape& b, const Shape& y) {
  std::vector<BroadcastAxis> axes = {{1, 0, 0}};  // innermost first
  Index a_step = 1, b_step = 1;
  for (std::size_t back = 1; back <= y.size(); ++back) {
    const Index size = y[y.size() - back];
    const Index a_size = back <= a.size() ? a[a.size() - back] : 1;
    const Index b_size = back <= b.size() ? b[b.size() - back] : 1;
    if (size == 1) continue;
    const BroadcastAxis axis{size, a_size == 1 ? 0 : a_step, b_size == 1 ? 0 : b_step};
    a_step *= a_size;
    b_step *= b_size;
    BroadcastAxis& last = axes.back();
    if (last.size == 1) {
      last = axis;
    } else if (axis.a_step == last.a_step * last.size && axis.b_step == last.b_step * last.size) {
      last.size *= size;
    } else {
      axes.push_back(axis);
    }
  }
  return {axes.rbegin(), axes.rend()};
}

// One axis of y = permute(x), and how far apart its neighbours are in x and in y.
struct PermutedAxis {
  Index size, x_stride, y_stride;
};

// The axes of y, outermost first, without those of size 1; neighbours in y that are neighbours in
// x too are merged. Empty for a tensor of one element.
inline std::vector<PermutedAxis> permuted_axes(const Shape& x_shape,
                                               const std::vector<Index>& axes) {
  std::vector<Index> strides(x_shape.size(), 1);
  for (std::size_t i = x_shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * x_shape[i];
  std::vector<PermutedAxis> result;
  for (Index axis : axes) {
    const Index size = x_shape[static_cast<std::size_t>(axis)];
    const Index stride = strides[static_cast<std::size_t>(axis)];
    if (size == 1) continue;
    if (!result.empty() && result.back().x_stride == size * stride) {
      result.back() = {result.back().size * size, stride, 0};
    } else {
      result.push_back({size, stride, 0});
    }
  }
  Index y_stride = 1;
  for (std::size_t i = result.size(); i-- > 0; y_stride *= result[i].size)
    result[i].y_stride = y_stride;
  return result;
}

// x in another type. Floating to integer cuts the fraction off; what is out of range
// becomes the nearest integer there is, NaN becomes 0.
template <typename From, typename To>
constexpr To converted(From x) {
  if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (x != x) return 0;
    // Not representable in From, the largest To rounds up: from there on it is out of range.
    if (x >= static_cast<From>(std::numeric_limits<To>::max()))
      return std::numeric_limits<To>::max();
    if (x <= static_cast<From>(std::numeric_limits<To>::min()))
      return std::numeric_limits<To>::min();
  }
  return static_cast<To>(x);
}

}  // namespace chalk
