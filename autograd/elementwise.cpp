// Arithmetic with broadcasting, and functions of one variable.
#include <algorithm>

#include "autograd/axes.h"
#include "autograd/node.h"
#include "autograd/operations.h"

namespace chalk {

// ---- broadcasting ----

static Shape broadcast_shape(const char* operation, const Tensor& a, const Tensor& b) {
  check_floating(operation, {&a, &b});
  Shape result = a.dim() >= b.dim() ? a.shape() : b.shape();
  const Shape& shorter = a.dim() >= b.dim() ? b.shape() : a.shape();
  const std::size_t missing = result.size() - shorter.size();
  for (std::size_t axis = 0; axis < shorter.size(); ++axis) {
    Index& size = result[missing + axis];
    check(size == shorter[axis] || size == 1 || shorter[axis] == 1, operation, ": shapes ",
          a.shape(), " and ", b.shape(),
          " can't be broadcast: aligned at the last axis, sizes "
          "must be equal or 1");
    if (size == 1) size = shorter[axis];
  }
  return result;
}

static Tensor binary(const char* operation, Binary f, const Tensor& a, const Tensor& b) {
  Tensor y = empty_like(a, broadcast_shape(operation, a, b));
  backend_for(a).binary(f, a, b, y);
  return y;
}

// What was repeated in the forward pass is summed up in the backward pass: if x_i was used as
// y_i1 ... y_in, then d loss / d x_i = sum over k of d loss / d y_ik.
static Tensor sum_to_shape(const Tensor& gradient, const Shape& shape) {
  if (gradient.shape() == shape) return gradient;
  const std::size_t missing = gradient.shape().size() - shape.size();
  std::vector<Index> repeated;
  for (std::size_t axis = 0; axis < gradient.shape().size(); ++axis)
    if (axis < missing || shape[axis - missing] != gradient.shape()[axis])
      repeated.push_back(static_cast<Index>(axis));
  return sum(gradient, repeated).with_shape(shape);
}

// ---- a + b, a - b ----

struct AddNode final : Node {
  Shape a_shape, b_shape;
  AddNode(const Tensor& a, const Tensor& b) : Node("add"), a_shape(a.shape()), b_shape(b.shape()) {}

  Gradients backward(const Tensor& grad_output) override {
    Tensor grad_a, grad_b;
    if (needs(0)) grad_a = sum_to_shape(grad_output, a_shape);
    if (needs(1)) grad_b = sum_to_shape(grad_output, b_shape);
    return {grad_a, grad_b};
  }
};

Tensor add(const Tensor& a, const Tensor& b) {
  Tensor y = binary("add", Binary::add, a, b);
  if (should_record({&a, &b})) record(y, std::make_shared<AddNode>(a, b), {a, b});
  return y;
}

struct SubtractNode final : Node {
  Shape a_shape, b_shape;
  SubtractNode(const Tensor& a, const Tensor& b)
      : Node("subtract"), a_shape(a.shape()), b_shape(b.shape()) {}

  Gradients backward(const Tensor& grad_output) override {
    Tensor grad_a, grad_b;
    if (needs(0)) grad_a = sum_to_shape(grad_output, a_shape);
    if (needs(1)) grad_b = sum_to_shape(-grad_output, b_shape);
    return {grad_a, grad_b};
  }
};

Tensor subtract(const Tensor& a, const Tensor& b) {
  Tensor y = binary("subtract", Binary::subtract, a, b);
  if (should_record({&a, &b})) record(y, std::make_shared<SubtractNode>(a, b), {a, b});
  return y;
}

// ---- a b ----

struct MultiplyNode final : Node {
  Shape a_shape, b_shape;
  Saved a, b;  // each for the other's gradient
  MultiplyNode(const Tensor& a, const Tensor& b)
      : Node("multiply"), a_shape(a.shape()), b_shape(b.shape()) {
    if (b.requires_grad()) this->a = a;
    if (a.requires_grad()) this->b = b;
  }

  // d(a b)/da = b, d(a b)/db = a
  Gradients backward(const Tensor& grad_output) override {
    Tensor grad_a, grad_b;
    if (needs(0)) grad_a = sum_to_shape(grad_output * b.get(), a_shape);
    if (needs(1)) grad_b = sum_to_shape(grad_output * a.get(), b_shape);
    return {grad_a, grad_b};
  }
};

Tensor multiply(const Tensor& a, const Tensor& b) {
  Tensor y = binary("multiply", Binary::multiply, a, b);
  if (should_record({&a, &b})) record(y, std::make_shared<MultiplyNode>(a, b), {a, b});
  return y;
}

// ---- a / b ----

struct DivideNode final : Node {
  Shape a_shape;
  Saved a, b;  // a for b's gradient only
  DivideNode(const Tensor& a, const Tensor& b) : Node("divide"), a_shape(a.shape()), b(b) {
    if (b.requires_grad()) this->a = a;
  }

  // d(a / b)/da = 1 / b, d(a / b)/db = -a / b^2
  Gradients backward(const Tensor& grad_output) override {
    const Tensor quotient = grad_output / b.get();
    Tensor grad_a, grad_b;
    if (needs(0)) grad_a = sum_to_shape(quotient, a_shape);
    if (needs(1)) grad_b = sum_to_shape(-(quotient * a.get() / b.get()), b.shape());
    return {grad_a, grad_b};
  }
};

Tensor divide(const Tensor& a, const Tensor& b) {
  Tensor y = binary("divide", Binary::divide, a, b);
  if (should_record({&a, &b})) record(y, std::make_shared<DivideNode>(a, b), {a, b});
  return y;
}

// ---- with a scalar ----

static Tensor scalar_like(const Tensor& x, double value) {
  if (!x.defined()) return x;  // add() and the others say so
  return Tensor::full({}, value, x.dtype(), x.device());
}

// clang-format off
Tensor operator+(const Tensor& a, double b) { return add(a, scalar_like(a, b)); }
Tensor operator-(const Tensor& a, double b) { return subtract(a, scalar_like(a, b)); }
Tensor operator*(const Tensor& a, double b) { return multiply(a, scalar_like(a, b)); }
Tensor operator/(const Tensor& a, double b) { return divide(a, scalar_like(a, b)); }
Tensor operator+(double a, const Tensor& b) { return add(scalar_like(b, a), b); }
Tensor operator-(double a, const Tensor& b) { return subtract(scalar_like(b, a), b); }
Tensor operator*(double a, const Tensor& b) { return multiply(scalar_like(b, a), b); }
Tensor operator/(double a, const Tensor& b) { return divide(scalar_like(b, a), b); }
Tensor operator-(const Tensor& x) { return x * -1.0; }
// clang-format on

// ---- functions of one variable: y = f(x), dx = f'(x) dy ----

//   f         f'(x)                     saved
//   exp       exp(x)       = y          y
//   log       1 / x                     x
//   sqrt      1/(2 sqrt(x)) = 1/(2 y)   y
//   relu      1 if x > 0   = y > 0      y
//   sigmoid   y (1 - y)                 y
//   tanh      1 - y^2                   y
struct UnaryNode final : Node {
  Unary f;
  Saved saved;
  UnaryNode(const char* name, Unary f, const Tensor& saved) : Node(name), f(f), saved(saved) {}

  Gradients backward(const Tensor& grad_output) override {
    Tensor grad_input(grad_output.shape(), grad_output.dtype(), grad_output.device());
    backend_for(grad_output).unary_backward(f, saved.get(), saved.get(), grad_output, grad_input);
    return {grad_input};
  }
};

static Tensor unary(const char* name, Unary f, const Tensor& x) {
  check_floating(name, {&x});
  Tensor y = empty_like(x);
  backend_for(x).unary(f, x, y);
  if (should_record({&x})) {
    const Tensor& saved = f == Unary::log ? x : y;
    record(y, std::make_shared<UnaryNode>(name, f, saved), {x});
  }
  return y;
}

// clang-format off
Tensor exp(const Tensor& x) { return unary("exp", Unary::exp, x); }
Tensor log(const Tensor& x) { return unary("log", Unary::log, x); }
Tensor sqrt(const Tensor& x) { return unary("sqrt", Unary::sqrt, x); }
Tensor relu(const Tensor& x) { return unary("relu", Unary::relu, x); }
Tensor sigmoid(const Tensor& x) { return unary("sigmoid", Unary::sigmoid, x); }
Tensor tanh(const Tensor& x) { return unary("tanh", Unary::tanh, x); }
// clang-format on

}  // namespace chalk
