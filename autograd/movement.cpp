// Operations that only arrange elements: their gradients arrange them back.
#include <algorithm>

#include "autograd/axes.h"
#include "autograd/node.h"
#include "autograd/operations.h"

namespace chalk {

// ---- reshape ----

struct ReshapeNode final : Node {
  Shape input_shape;
  explicit ReshapeNode(const Shape& input_shape) : Node("reshape"), input_shape(input_shape) {}

  Gradients backward(const Tensor& grad_output) override {
    return {grad_output.with_shape(input_shape)};
  }
};

Tensor reshape(const Tensor& x, Shape shape) {
  check_tensors("reshape", {&x});
  for (Index size : shape)
    check(size >= -1, "reshape: there is no shape ", shape);
  check(std::count(shape.begin(), shape.end(), -1) <= 1, "reshape: only one size of ", shape,
        " may be -1");
  const Shape asked = shape;
  const auto open = std::find(shape.begin(), shape.end(), -1);
  if (open != shape.end()) {
    *open = 1;
    const Index known = element_count(shape);
    check(known > 0, "reshape: -1 beside a size of 0 may mean anything; a tensor of shape ",
          x.shape());
    *open = x.numel() / known;
  }
  check(element_count(shape) == x.numel(), "reshape: a tensor of shape ", x.shape(), " has ",
        x.numel(), " elements, they can't take the shape ", asked);
  Tensor y = x.with_shape(std::move(shape));
  if (should_record({&x})) record(y, std::make_shared<ReshapeNode>(x.shape()), {x});
  return y;
}

// Elements of any type are arranged alike, so any backend of the device will do.
static Backend& mover(const Tensor& x) {
  return backend(x.device(), DType::float32);
}

// ---- permute ----

static Tensor permuted(const Tensor& x, const std::vector<Index>& axes) {
  Shape shape;
  for (Index axis : axes)
    shape.push_back(x.size(axis));
  Tensor y = empty_like(x, shape);
  mover(x).permute(x, axes, y);
  return y;
}

// Axis a of y is axis axes[a] of x, so axis axes[a] of x is axis a of y: the inverse permutation.
struct PermuteNode final : Node {
  std::vector<Index> axes;
  explicit PermuteNode(const std::vector<Index>& axes) : Node("permute"), axes(axes) {}

  Gradients backward(const Tensor& grad_output) override {
    std::vector<Index> inverse(axes.size());
    for (std::size_t a = 0; a < axes.size(); ++a)
      inverse[static_cast<std::size_t>(axes[a])] = static_cast<Index>(a);
    return {permuted(grad_output, inverse)};
  }
};

Tensor permute(const Tensor& x, const std::vector<Index>& axes) {
  check_tensors("permute", {&x});
  check(static_cast<Index>(axes.size()) == x.dim(), "permute: ", axes.size(),
        " axes given for a tensor of shape ", x.shape());
  std::vector<Index> positive;
  std::vector<bool> used(axes.size(), false);
  for (Index axis : axes) {
    positive.push_back(positive_axis("permute", x, axis));
    const std::size_t index = static_cast<std::size_t>(positive.back());
    check(!used[index], "permute: axis ", axis, " is named twice");
    used[index] = true;
  }
  Tensor y = permuted(x, positive);
  if (should_record({&x})) record(y, std::make_shared<PermuteNode>(positive), {x});
  return y;
}

Tensor transpose(const Tensor& x, Index axis0, Index axis1) {
  check_tensors("transpose", {&x});
  std::vector<Index> axes;
  for (Index axis = 0; axis < x.dim(); ++axis)
    axes.push_back(axis);
  std::swap(axes[static_cast<std::size_t>(positive_axis("transpose", x, axis0))],
            axes[static_cast<std::size_t>(positive_axis("transpose", x, axis1))]);
  return permute(x, axes);
}

// ---- slice and concatenate: along an axis, a tensor is `outer` rows of length * inner elements;
// ---- a slice is a part of each row, a concatenation puts rows behind each other

// part = whole[..., begin : begin + size of part, ...]
static void copy_out(const Tensor& whole, Index axis, Index begin, Tensor& part) {
  const AxisSizes from = along(whole.shape(), axis), to = along(part.shape(), axis);
  const Index length = to.length * to.inner;
  mover(whole).copy_rows(from.outer, length, whole, begin * from.inner, from.length * from.inner,
                         part, 0, length);
}

// whole[..., begin : begin + size of part, ...] = part
static void copy_in(const Tensor& part, Index axis, Index begin, Tensor& whole) {
  const AxisSizes from = along(part.shape(), axis), to = along(whole.shape(), axis);
  const Index length = from.length * from.inner;
  mover(whole).copy_rows(from.outer, length, part, 0, length, whole, begin * to.inner,
                         to.length * to.inner);
}

static Shape with_size(Shape shape, Index axis, Index size) {
  shape[static_cast<std::size_t>(axis)] = size;
  return shape;
}

// What was left out had no influence: its gradient is 0.
struct SliceNode final : Node {
  Shape input_shape;
  Index axis, begin;
  SliceNode(const Shape& input_shape, Index axis, Index begin)
      : Node("slice"), input_shape(input_shape), axis(axis), begin(begin) {}

  Gradients backward(const Tensor& grad_output) override {
    Tensor grad_input = Tensor::zeros(input_shape, grad_output.dtype(), grad_output.device());
    copy_in(grad_output, axis, begin, grad_input);
    return {grad_input};
  }
};

Tensor slice(const Tensor& x, Index axis, Index begin, Index end) {
  check_tensors("slice", {&x});
  axis = positive_axis("slice", x, axis);
  check(0 <= begin && begin <= end && end <= x.size(axis), "slice: [", begin, ", ", end,
        ") of axis ", axis, " of a tensor with shape ", x.shape());
  Tensor y = empty_like(x, with_size(x.shape(), axis, end - begin));
  copy_out(x, axis, begin, y);
  if (should_record({&x})) record(y, std::make_shared<SliceNode>(x.shape(), axis, begin), {x});
  return y;
}

// Every input gets its part of the gradient.
struct ConcatenateNode final : Node {
  std::vector<Shape> input_shapes;
  Index axis;
  ConcatenateNode(const std::vector<Tensor>& tensors, Index axis)
      : Node("concatenate"), axis(axis) {
    for (const Tensor& tensor : tensors)
      input_shapes.push_back(tensor.shape());
  }

  Gradients backward(const Tensor& grad_output) override {
    Gradients gradients;
    Index begin = 0;
    for (std::size_t i = 0; i < input_shapes.size(); ++i) {
      gradients.push_back(needs(i) ? empty_like(grad_output, input_shapes[i]) : Tensor());
      if (needs(i)) copy_out(grad_output, axis, begin, gradients[i]);
      begin += input_shapes[i][static_cast<std::size_t>(axis)];
    }
    return gradients;
  }
};

Tensor concatenate(const std::vector<Tensor>& tensors, Index axis) {
  check(!tensors.empty(), "concatenate: no tensors given");
  const Tensor& first = tensors[0];
  for (const Tensor& tensor : tensors)
    check_tensors("concatenate", {&first, &tensor});
  axis = positive_axis("concatenate", first, axis);
  Index total = 0;
  for (const Tensor& tensor : tensors) {
    check(tensor.dim() == first.dim() && tensor.dtype() == first.dtype() &&
              with_size(tensor.shape(), axis, 0) == with_size(first.shape(), axis, 0),
          "concatenate: tensors may differ in axis ", axis, " only; got shapes ", first.shape(),
          " and ", tensor.shape(), ", types ", to_string(first.dtype()), " and ",
          to_string(tensor.dtype()));
    total += tensor.size(axis);
    element_count(with_size(first.shape(), axis, total));  // fails before the sum can overflow
  }
  Tensor y = empty_like(first, with_size(first.shape(), axis, total));
  Index begin = 0;
  for (const Tensor& tensor : tensors) {
    copy_in(tensor, axis, begin, y);
    begin += tensor.size(axis);
  }
  if (should_record(tensors)) record(y, std::make_shared<ConcatenateNode>(tensors, axis), tensors);
  return y;
}

}  // namespace chalk
