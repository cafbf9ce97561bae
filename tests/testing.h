// What the tests share: fixtures that PyTorch computed, and comparisons that say what differs.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "autograd/check.h"
#include "autograd/cpu/ladders.h"
#include "autograd/cpu/parallel.h"
#include "autograd/devices.h"
#include "autograd/fusion.h"
#include "cuda/ladders.h"
#include "data/safetensors.h"

// So that a failed CHECK shows the numbers.
template <typename T>
struct doctest::StringMaker<std::vector<T>> {
  static String convert(const std::vector<T>& values) {
    std::ostringstream text;
    for (const T& value : values)
      text << (&value == &values.front() ? "" : ", ") << value;
    return text.str().c_str();
  }
};

namespace chalk::testing {

// The tensors of tests/fixtures/<name>.safetensors, which make_<name>.py wrote.
class Fixture {
 public:
  explicit Fixture(const std::string& name)
      : tensors(read_safetensors(CHALK_FIXTURES "/" + name + ".safetensors").tensors) {}

  bool has(const std::string& name) const { return tensors.count(name) != 0; }

  const Tensor& at(const std::string& name) const {
    check(has(name), "the fixture has no ", name);
    return tensors.at(name);
  }

  // The tensors whose names begin with `prefix`, without it.
  std::map<std::string, Tensor> under(const std::string& prefix) const {
    std::map<std::string, Tensor> found;
    for (const auto& [name, tensor] : tensors)
      if (name.starts_with(prefix)) found[name.substr(prefix.size())] = tensor;
    return found;
  }

  std::map<std::string, Tensor> tensors;
};

// The devices that this program has: besides the CPU a GPU, an emulated one, or that of
// second_device.cpp.
inline std::vector<Device> devices() {
  return cuda_available() ? std::vector{Device::cpu, Device::cuda} : std::vector{Device::cpu};
}

// Whether Device::cuda runs the kernels of cuda/; second_device.cpp runs the CPU's.
extern const bool has_cuda_kernels;
inline bool runs_cuda_kernels(Device device) {
  return device != Device::cpu && has_cuda_kernels;
}

// A way of computing something, and what chooses it.
struct Way {
  std::string name;
  std::function<void()> choose;
};

template <typename Rung>
std::vector<Way> ways(const std::vector<std::string_view>& names, void (*set)(Rung)) {
  std::vector<Way> all;
  for (std::size_t i = 0; i < names.size(); ++i)
    all.push_back({std::string(names[i]), [set, i] { set(static_cast<Rung>(i)); }});
  return all;
}

// The rungs of a device for convolutions, matrix products, and what goes along rows.
inline std::vector<Way> convolution_ways(Device device) {
  if (runs_cuda_kernels(device)) return ways(cuda::conv_rung_names(), cuda::set_conv_rung);
  return ways(cpu::conv_rung_names(), cpu::set_conv_rung);
}
inline std::vector<Way> product_ways(Device device) {
  if (runs_cuda_kernels(device)) return ways(cuda::matmul_rung_names(), cuda::set_matmul_rung);
  return ways(cpu::matmul_rung_names(), cpu::set_matmul_rung);
}
inline std::vector<Way> row_ways(Device device) {
  if (runs_cuda_kernels(device)) return ways(cuda::row_rung_names(), cuda::set_row_rung);
  return {{"plain", [] {}}};
}

// The choices as they were before, whatever a test does.
struct Choices {
  bool fused = fusion_enabled();
  cpu::ConvRung convolution = cpu::conv_rung();
  cpu::MatmulRung product = cpu::matmul_rung();
  cuda::ConvRung cuda_convolution = cuda::conv_rung();
  cuda::MatmulRung cuda_product = cuda::matmul_rung();
  cuda::RowRung cuda_rows = cuda::row_rung();
  bool tf32_convolutions = cuda::tf32_in_convolutions(), tf32_products = cuda::tf32_in_products();
  ~Choices() {
    set_fusion(fused);
    cpu::set_conv_rung(convolution);
    cpu::set_matmul_rung(product);
    cpu::set_num_threads(0);
    cuda::set_conv_rung(cuda_convolution);
    cuda::set_matmul_rung(cuda_product);
    cuda::set_row_rung(cuda_rows);
    cuda::set_tf32(tf32_convolutions, tf32_products);
  }
};

// "[1, 0, 2]": the index of element `i` in row-major order.
inline std::string index_text(const Shape& shape, Index i) {
  Shape index(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0; i /= shape[axis])
    index[axis] = i % shape[axis];
  return to_string(index);
}

// "" where shapes are equal and every |actual - expected| <= tolerance * largest |expected| (which
// counts as 0.01 at least, for what is 0 but for rounding); else a description of the worst
// element.
inline std::string difference(const Tensor& actual, const Tensor& expected, double tolerance) {
  if (!actual.defined()) return "is undefined";
  std::ostringstream text;
  text.precision(17);
  if (actual.shape() != expected.shape())
    text << "has the shape " << actual.shape() << ", expected " << expected.shape();
  if (!text.str().empty()) return text.str();
  const std::vector<double> a = actual.to_vector<double>(), e = expected.to_vector<double>();
  double largest = 0, worst = -1;
  std::size_t where = 0;
  for (std::size_t i = 0; i < e.size(); ++i) {
    largest = std::max(largest, std::abs(e[i]));
    const double error = std::isnan(a[i]) ? INFINITY : std::abs(a[i] - e[i]);
    if (error > worst) worst = error, where = i;
  }
  const double scale = std::max(largest, 0.01);
  if (worst <= tolerance * scale) return "";
  text << "at " << index_text(expected.shape(), static_cast<Index>(where)) << " is " << a[where]
       << ", expected " << e[where] << ": wrong by " << worst / scale << " of the largest, "
       << scale;
  return text.str();
}

inline void check_close(const std::string& what, const Tensor& actual, const Tensor& expected,
                        double tolerance) {
  const std::string problem = difference(actual, expected, tolerance);
  CHECK_MESSAGE(problem.empty(), what, " ", problem);
}

// The message of the Error that `call` throws; "no error" if it throws none.
inline std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// Fails unless `call` throws an Error whose message contains all of the words.
inline void check_error(const std::function<void()>& call, const std::vector<std::string>& words) {
  const std::string message = error_of(call);
  for (const std::string& word : words)
    CHECK_MESSAGE(message.find(word) != std::string::npos, "\"", message, "\" should contain \"",
                  word, "\"");
}

}  // namespace chalk::testing
