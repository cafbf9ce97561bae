#include "autograd/tensor.h"

#include <charconv>
#include <cstring>

#include "autograd/backend.h"
#include "autograd/check.h"
#include "autograd/devices.h"
#include "autograd/node.h"

namespace chalk {

Device Device::named(std::string_view name) {
  if (name == "cpu") return cpu;
  Device device = cuda;
  if (name == "cuda") return device;
  const char *number = name.data() + std::min(name.size(), sizeof("cuda:") - 1),
             *end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(number, end, device.index);
  check(name.starts_with("cuda:") && error == std::errc() && rest == end && device.index >= 0,
        "there is no device called \"", name, "\"; the names are cpu, cuda, cuda:1 and so on");
  return device;
}

std::string to_string(Device device) {
  return device == Device::cpu ? "cpu" : cuda_name(device.index);
}

const char* to_string(DType dtype) {
  constexpr const char* names[] = {"float32", "float64", "int64", "uint8"};
  return names[static_cast<int>(dtype)];
}

Index size_of(DType dtype) {
  constexpr Index sizes[] = {4, 8, 8, 1};
  return sizes[static_cast<int>(dtype)];
}

// clang-format off
template <> DType dtype_of<float>() { return DType::float32; }
template <> DType dtype_of<double>() { return DType::float64; }
template <> DType dtype_of<std::int64_t>() { return DType::int64; }
template <> DType dtype_of<std::uint8_t>() { return DType::uint8; }
// clang-format on

Storage::Storage(Index bytes, Device device)
    : device_(device),
      allocator_(allocator(device)),
      bytes_(bytes),
      data_(allocator_.allocate(bytes)) {}

Storage::~Storage() {
  allocator_.release(data_, bytes_);
}

void Allocator::copy(const void* from, void* to, Index bytes) {
  if (bytes > 0) std::memmove(to, from, static_cast<std::size_t>(bytes));
}

// Between any two devices; of other than the CPU and one more by way of the CPU.
static void copy_bytes(const Storage& from, const Storage& to) {
  const Device device = from.device() == Device::cpu ? to.device() : from.device();
  if (to.device() == device || to.device() == Device::cpu)
    return allocator(device).copy(from.data(), to.data(), from.bytes());
  const Storage between(from.bytes(), Device::cpu);
  copy_bytes(from, between);
  copy_bytes(between, to);
}

struct Tensor::Body {
  Shape shape;
  DType dtype;
  std::shared_ptr<Storage> storage;
  std::shared_ptr<Node> node;  // null: no gradient is needed
};

// ---- making tensors ----

Tensor::Tensor(Shape shape, DType dtype, Device device) {
  const Index bytes = element_count(shape) * size_of(dtype);
  body_ = std::make_shared<Body>(
      Body{std::move(shape), dtype, std::make_shared<Storage>(bytes, device), nullptr});
}

Tensor Tensor::full(Shape shape, double value, DType dtype, Device device) {
  Tensor result(std::move(shape), dtype, device);
  if (result.is_floating()) {
    backend_for(result).fill(value, result);
  } else {
    const Tensor filled = full(result.shape(), value, DType::float64, device);
    backend_for(filled).cast(filled, result);
  }
  return result;
}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device) {
  return full(std::move(shape), 0, dtype, device);
}

Tensor Tensor::ones(Shape shape, DType dtype, Device device) {
  return full(std::move(shape), 1, dtype, device);
}

Tensor Tensor::rand(Shape shape, Generator& generator, DType dtype, Device device) {
  Tensor result(std::move(shape), dtype, device);
  backend_for(result).uniform(generator.seed, generator.counter, result);
  generator.counter += static_cast<std::uint64_t>(result.numel());
  return result;
}

Tensor Tensor::randn(Shape shape, Generator& generator, DType dtype, Device device) {
  Tensor result(std::move(shape), dtype, device);
  generator.counter += generator.counter % 2;  // normals use the stream's numbers in pairs
  backend_for(result).normal(generator.seed, generator.counter / 2, result);
  generator.counter += 2 * static_cast<std::uint64_t>(result.numel());
  return result;
}

template <typename T>
Tensor Tensor::from(const std::vector<T>& values, Shape shape) {
  check(static_cast<Index>(values.size()) == element_count(shape), "Tensor::from: ", values.size(),
        " values can't fill the shape ", shape);
  Tensor result(std::move(shape), dtype_of<T>());
  if (!values.empty())
    std::memcpy(result.storage()->data(), values.data(), values.size() * sizeof(T));
  return result;
}

// ---- looking at tensors ----

const Shape& Tensor::shape() const {
  check(defined(), "an undefined tensor was used; grad() is undefined before backward()");
  return body_->shape;
}

Index Tensor::size(Index axis) const {
  const Index positive = axis < 0 ? axis + dim() : axis;
  check(positive >= 0 && positive < dim(), "size: axis ", axis, " of a tensor with shape ",
        shape());
  return shape()[static_cast<std::size_t>(positive)];
}

Index Tensor::numel() const {
  return element_count(shape());
}

DType Tensor::dtype() const {
  check(defined(), "an undefined tensor was used; grad() is undefined before backward()");
  return body_->dtype;
}

Device Tensor::device() const {
  return storage()->device();
}

const std::shared_ptr<Storage>& Tensor::storage() const {
  check(defined(), "an undefined tensor was used; grad() is undefined before backward()");
  return body_->storage;
}

template <typename T>
const T* Tensor::data() const {
  check(dtype() == dtype_of<T>(), "data: the tensor is ", to_string(dtype()), ", not ",
        to_string(dtype_of<T>()), "; convert it by to()");
  check(device() == Device::cpu, "data: the elements are on ", to_string(device()),
        ", out of reach; copy them by to(Device::cpu)");
  return static_cast<const T*>(body_->storage->data());
}

template <typename T>
T* Tensor::mutable_data() {
  const T* elements = data<T>();
  ++body_->storage->version;
  return const_cast<T*>(elements);
}

double Tensor::item() const {
  check(numel() == 1, "item: the tensor has ", numel(), " elements, shape ", shape());
  return to_vector<double>()[0];
}

template <typename T>
std::vector<T> Tensor::to_vector() const {
  const Tensor here = detach().to(dtype_of<T>()).to(Device::cpu);
  const T* elements = here.data<T>();
  return std::vector<T>(elements, elements + numel());
}

// ---- automatic differentiation ----

const std::shared_ptr<Node>& Tensor::node() const {
  check(defined(), "an undefined tensor was used; grad() is undefined before backward()");
  return body_->node;
}

void Tensor::set_node(std::shared_ptr<Node> node) {
  check(is_floating() || !node, "set_node: ", to_string(dtype()), " tensors have no gradient");
  body_->node = std::move(node);
  if (!body_->node) return;
  body_->node->shape = shape();
  body_->node->dtype = dtype();
}

Tensor& Tensor::set_requires_grad(bool requires_grad) {
  const bool is_leaf = !node() || dynamic_cast<LeafNode*>(node().get());
  check(is_leaf, "set_requires_grad: this tensor is the result of ",
        is_leaf ? "" : node()->operation, "; detach() it first");
  check(!requires_grad || is_floating(),
        "set_requires_grad: only float32 and float64 tensors have "
        "gradients, this one is ",
        to_string(dtype()));
  if (requires_grad != this->requires_grad())
    set_node(requires_grad ? std::make_shared<LeafNode>() : nullptr);
  return *this;
}

Tensor Tensor::grad() const {
  return node() ? node()->gradient : Tensor();
}

void Tensor::set_grad(const Tensor& gradient) {
  if (!gradient.defined()) {
    if (node()) node()->gradient = Tensor();
    return;
  }
  check(requires_grad(), "set_grad: this tensor does not require a gradient");
  check(gradient.shape() == shape() && gradient.dtype() == dtype() && gradient.device() == device(),
        "set_grad: the gradient is ", gradient.shape(), " ", to_string(gradient.dtype()), " on ",
        to_string(gradient.device()), ", the tensor ", shape(), " ", to_string(dtype()), " on ",
        to_string(device()));
  node()->gradient = gradient.detach();  // with a history it could own this tensor
}

void Tensor::retain_grad() {
  check(requires_grad(), "retain_grad: this tensor does not require a gradient");
  node()->keep_gradient = true;
}

bool Tensor::is_unique() const {
  return body_.use_count() == 1 && body_->storage.use_count() == 1;
}

Tensor Tensor::with_shape(Shape shape) const {
  check(element_count(shape) == numel(), "with_shape: ", this->shape(),
        " has not as many elements as ", shape);
  Tensor result;
  result.body_ = std::make_shared<Body>(Body{std::move(shape), dtype(), storage(), nullptr});
  return result;
}

Tensor Tensor::detach() const {
  return with_shape(shape());
}

// ---- copying ----

Tensor Tensor::clone() const {
  Tensor result(shape(), dtype(), device());
  result.copy_from(*this);
  return result;
}

void Tensor::set_data(const Tensor& source) {
  check(source.shape() == shape(), "set_data: ", source.shape(), " for a tensor of shape ",
        shape());
  check(source.is_floating() || !requires_grad(), "set_data: ", to_string(source.dtype()),
        " for a tensor that requires a gradient, which only float32 and float64 have");
  set_grad(Tensor());
  body_->storage = source.storage();
  body_->dtype = source.dtype();
  set_node(node());
}

void Tensor::copy_from(const Tensor& source) {
  check(source.shape() == shape() && source.dtype() == dtype(), "copy_from: source ",
        source.shape(), " ", to_string(source.dtype()), ", destination ", shape(), " ",
        to_string(dtype()));
  copy_bytes(*source.storage(), *storage());
  ++storage()->version;
}

// y = x in another type or on another device; so dx = dy, converted back.
struct ConvertNode final : Node {
  DType input_dtype;
  Device input_device;
  explicit ConvertNode(const Tensor& input)
      : Node("to"), input_dtype(input.dtype()), input_device(input.device()) {}

  Gradients backward(const Tensor& grad_output) override {
    return {grad_output.to(input_dtype).to(input_device)};
  }
};

Tensor Tensor::to(DType dtype) const {
  if (dtype == this->dtype()) return *this;
  // A backend converts from and to its own element type: integers go by way of float64.
  const bool both_integers = !is_floating() && dtype != DType::float32 && dtype != DType::float64;
  if (both_integers) return to(DType::float64).to(dtype);
  Tensor result(shape(), dtype, device());
  backend(device(), is_floating() ? this->dtype() : dtype).cast(*this, result);
  if (result.is_floating() && should_record({this}))
    record(result, std::make_shared<ConvertNode>(*this), {*this});
  return result;
}

Tensor Tensor::to(Device device) const {
  if (device == this->device()) return *this;
  Tensor result(shape(), dtype(), device);
  copy_bytes(*storage(), *result.storage());
  if (should_record({this})) record(result, std::make_shared<ConvertNode>(*this), {*this});
  return result;
}

template Tensor Tensor::from(const std::vector<float>&, Shape);
template Tensor Tensor::from(const std::vector<double>&, Shape);
template Tensor Tensor::from(const std::vector<std::int64_t>&, Shape);
template Tensor Tensor::from(const std::vector<std::uint8_t>&, Shape);
template const float* Tensor::data() const;
template const double* Tensor::data() const;
template const std::int64_t* Tensor::data() const;
template const std::uint8_t* Tensor::data() const;
template float* Tensor::mutable_data();
template double* Tensor::mutable_data();
template std::int64_t* Tensor::mutable_data();
template std::uint8_t* Tensor::mutable_data();
template std::vector<float> Tensor::to_vector() const;
template std::vector<double> Tensor::to_vector() const;
template std::vector<std::int64_t> Tensor::to_vector() const;
template std::vector<std::uint8_t> Tensor::to_vector() const;

}  // namespace chalk
