// Sums, means and maxima over axes.
#include <algorithm>

#include "autograd/axes.h"
#include "autograd/node.h"
#include "autograd/operations.h"

namespace chalk {

// The axes as sorted, positive, distinct numbers; {} means all.
static std::vector<Index> sorted_axes(const char* operation, const Tensor& x,
                                      const std::vector<Index>& axes) {
  std::vector<Index> result;
  for (Index axis : axes)
    result.push_back(positive_axis(operation, x, axis));
  if (axes.empty())
    for (Index axis = 0; axis < x.dim(); ++axis)
      result.push_back(axis);
  std::sort(result.begin(), result.end());
  check(std::adjacent_find(result.begin(), result.end()) == result.end(), operation,
        ": an axis is named twice");
  return result;
}

// The shape after reducing the (sorted) axes.
static Shape reduced_shape(const Shape& shape, const std::vector<Index>& axes, bool keepdim) {
  Shape result;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    const bool reduced = std::binary_search(axes.begin(), axes.end(), static_cast<Index>(axis));
    if (!reduced) result.push_back(shape[axis]);
    if (reduced && keepdim) result.push_back(1);
  }
  return result;
}

// Several axes are reduced run by run, the last run first. Neighbouring axes make one run:
// [N, H, W, C] over {1, 2} is [N, H * W, C] over its middle axis.
static std::vector<AxisSizes> runs_of(Shape shape, const std::vector<Index>& axes) {
  std::vector<AxisSizes> runs;
  for (std::size_t end = axes.size(), begin = end; end > 0; end = begin) {
    begin = end - 1;
    while (begin > 0 && axes[begin - 1] == axes[begin] - 1)
      --begin;
    AxisSizes run{along(shape, axes[begin]).outer, 1, along(shape, axes[end - 1]).inner};
    for (std::size_t i = begin; i < end; ++i) {
      Index& size = shape[static_cast<std::size_t>(axes[i])];
      run.length *= size;
      size = 1;
    }
    runs.push_back(run);
  }
  if (runs.empty()) runs.push_back({element_count(shape), 1, 1});  // a scalar: copied
  return runs;
}

// ---- sum ----

// y = sum_i x_i: every x_i has the gradient of y, so the backward pass repeats it.
struct SumNode final : Node {
  Shape input_shape, kept_shape;
  SumNode(const Shape& input_shape, const Shape& kept_shape)
      : Node("sum"), input_shape(input_shape), kept_shape(kept_shape) {}

  Gradients backward(const Tensor& grad_output) override {
    Tensor grad_input = empty_like(grad_output, input_shape);
    const Tensor zero = Tensor::zeros({}, grad_output.dtype(), grad_output.device());
    backend_for(grad_output)
        .binary(Binary::add, grad_output.with_shape(kept_shape), zero, grad_input);
    return {grad_input};
  }
};

Tensor sum(const Tensor& x, const std::vector<Index>& axes, bool keepdim) {
  check_floating("sum", {&x});
  const std::vector<Index> reduced = sorted_axes("sum", x, axes);
  Tensor y = x.detach();
  for (const AxisSizes& run : runs_of(x.shape(), reduced)) {
    Tensor partial = empty_like(x, {run.outer, run.inner});
    backend_for(x).sum(run, y, partial);
    y = partial;
  }
  y = y.with_shape(reduced_shape(x.shape(), reduced, keepdim));
  if (should_record({&x}))
    record(y, std::make_shared<SumNode>(x.shape(), reduced_shape(x.shape(), reduced, true)), {x});
  return y;
}

Tensor mean(const Tensor& x, const std::vector<Index>& axes, bool keepdim) {
  check_floating("mean", {&x});
  Tensor total = sum(x, axes, keepdim);
  const double count = static_cast<double>(x.numel()) / static_cast<double>(total.numel());
  return total / count;
}

// ---- max ----

// y = x_j for the first largest x_j: only x_j has a gradient, that of y.
struct MaxNode final : Node {
  AxisSizes sizes;
  Shape input_shape;
  Tensor position;
  MaxNode(const AxisSizes& sizes, const Shape& input_shape, const Tensor& position)
      : Node("max"), sizes(sizes), input_shape(input_shape), position(position) {}

  Gradients backward(const Tensor& grad_output) override {
    Tensor grad_input = empty_like(grad_output, input_shape);
    backend_for(grad_output).max_backward(sizes, position, grad_output, grad_input);
    return {grad_input};
  }
};

// The maximum along one run of axes, seen as [outer, length, inner] -> [outer, inner].
static Tensor max_along(const Tensor& x, const AxisSizes& sizes, Tensor& position) {
  check(sizes.length > 0, "max: there is no maximum of no elements; shape ", x.shape());
  Tensor y = empty_like(x, {sizes.outer, sizes.inner});
  position = Tensor(y.shape(), DType::int64, x.device());
  backend_for(x).max(sizes, x, y, position);
  if (should_record({&x})) record(y, std::make_shared<MaxNode>(sizes, x.shape(), position), {x});
  return y;
}

Tensor max(const Tensor& x, const std::vector<Index>& axes, bool keepdim) {
  check_floating("max", {&x});
  const std::vector<Index> reduced = sorted_axes("max", x, axes);
  Tensor y = x, position;
  for (const AxisSizes& run : runs_of(x.shape(), reduced))
    y = max_along(y, run, position);
  return reshape(y, reduced_shape(x.shape(), reduced, keepdim));
}

Tensor argmax(const Tensor& x, Index axis, bool keepdim) {
  check_floating("argmax", {&x});
  const Index positive = positive_axis("argmax", x, axis);
  Tensor position;
  max_along(x.detach(), along(x.shape(), positive), position);
  return position.with_shape(reduced_shape(x.shape(), {positive}, keepdim));
}

}  // namespace chalk
