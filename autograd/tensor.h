// Tensor: an n-dimensional array that remembers how it was computed.
//
//   Tensor w = Tensor::randn({3, 2}).set_requires_grad();
//   Tensor y = matmul(x, w), loss = sum(y * y);
//   loss.backward();          // walks the recorded operations from loss back to w
//   std::cout << w.grad();    // d loss / d w
//
// A Tensor is a handle: copies share elements and gradient. Elements are always contiguous in
// row-major order, so an axis has no stride to keep track of: reshape() shares the elements,
// transpose() copies them. Images are channels last: [batch, height, width, channels].
#pragma once

#include <cstdint>
#include <iosfwd>
#include <memory>
#include <vector>

#include "autograd/random.h"
#include "autograd/shape.h"
#include "autograd/storage.h"

namespace chalk {

struct Node;

// float64 makes gradients checkable to ten digits; int64 holds labels, uint8 images.
enum class DType { float32, float64, int64, uint8 };

const char* to_string(DType dtype);
Index size_of(DType dtype);

// The DType of a C++ type: dtype_of<float>() is DType::float32.
template <typename T>
DType dtype_of();

class Tensor {
 public:
  // Undefined: no shape, no elements; what grad() returns before backward().
  Tensor() = default;

  // Elements are uninitialised.
  explicit Tensor(Shape shape, DType dtype = DType::float32, Device device = Device::cpu);

  static Tensor full(Shape shape, double value, DType dtype = DType::float32,
                     Device device = Device::cpu);
  static Tensor zeros(Shape shape, DType dtype = DType::float32, Device device = Device::cpu);
  static Tensor ones(Shape shape, DType dtype = DType::float32, Device device = Device::cpu);

  // Uniform in [0, 1), and normal with mean 0 and variance 1.
  static Tensor rand(Shape shape, Generator& generator = default_generator(),
                     DType dtype = DType::float32, Device device = Device::cpu);
  static Tensor randn(Shape shape, Generator& generator = default_generator(),
                      DType dtype = DType::float32, Device device = Device::cpu);

  // Copies row-major values; T is float, double, std::int64_t or std::uint8_t.
  template <typename T>
  static Tensor from(const std::vector<T>& values, Shape shape);

  bool defined() const { return body_ != nullptr; }
  const Shape& shape() const;
  Index dim() const { return static_cast<Index>(shape().size()); }
  Index size(Index axis) const;  // axis may be negative: -1 is the last
  Index numel() const;
  DType dtype() const;
  Device device() const;
  bool is_floating() const { return dtype() == DType::float32 || dtype() == DType::float64; }

  // The elements in row-major order. T must match dtype(), and the tensor be on the CPU:
  // to(Device::cpu) makes a copy that is. mutable_data() counts as a change of
  // the elements: a graph that saved this tensor for its backward pass will refuse to run.
  template <typename T>
  const T* data() const;
  template <typename T>
  T* mutable_data();

  // The only element, converted to double.
  double item() const;

  // All elements on the CPU, converted to T.
  template <typename T>
  std::vector<T> to_vector() const;

  // ---- automatic differentiation ----

  bool requires_grad() const { return node() != nullptr; }

  // Makes this tensor a leaf whose gradient backward() computes, or stops that. Only for tensors
  // that no recorded operation produced. Returns *this.
  Tensor& set_requires_grad(bool requires_grad = true);

  // The gradient that backward() accumulated; undefined before. Operations' results keep theirs,
  // that of the last backward(), only after retain_grad().
  Tensor grad() const;
  void set_grad(const Tensor& gradient);  // of the same kind; an undefined tensor clears it
  void zero_grad() { set_grad(Tensor()); }
  void retain_grad();

  // Adds d(this)/d(leaf) to the gradient of every leaf this tensor was computed from. Without an
  // argument this tensor must have one element. The graph is freed on the way unless retained.
  void backward(bool retain_graph = false) const;
  void backward(const Tensor& gradient, bool retain_graph = false) const;

  // The same elements, without history.
  Tensor detach() const;

  // A copy of the elements, without history.
  Tensor clone() const;

  // Converted copies; *this where nothing changes. Recorded like every operation, but nothing leads
  // back through an integer.
  Tensor to(DType dtype) const;
  Tensor to(Device device) const;

  // Makes this tensor, through all its handles, refer to the elements of another of the same
  // shape, perhaps of another type or device: how a module is converted. Drops the gradient.
  void set_data(const Tensor& source);

  // Overwrites the elements (shapes and types must match, devices need not); counts as a change.
  void copy_from(const Tensor& source);

  // ---- for operations ----

  const std::shared_ptr<Node>& node() const;
  void set_node(std::shared_ptr<Node> node);
  const std::shared_ptr<Storage>& storage() const;

  // Whether no other tensor shares these elements.
  bool is_unique() const;

  // A tensor of another shape over the same elements, without history.
  Tensor with_shape(Shape shape) const;

 private:
  struct Body;
  std::shared_ptr<Body> body_;
};

// Prints as numpy does.
std::ostream& operator<<(std::ostream& out, const Tensor& tensor);

}  // namespace chalk
