// A second device for the tests, at the seam that is meant for one: what this file defines takes
// the place of autograd/no_cuda.cpp. Its memory is the host's, but its addresses are not: whoever
// reads or writes there without the allocator dies. Its backend runs the CPU's on copies.
//
// So all of chalk can be seen to work on a device other than the CPU, of which there are two here.
#include <array>
#include <cstdlib>
#include <cstring>
#include <tuple>

#include "autograd/caching_allocator.h"
#include "autograd/check.h"
#include "autograd/devices.h"
#include "data/transforms.h"
#include "tests/testing.h"

const bool chalk::testing::has_cuda_kernels = false;

namespace chalk {
namespace {

// ---- memory ----

// Added to an address makes it one of the device's, which no processor can reach.
constexpr std::uintptr_t away = std::uintptr_t{1} << 52;

void* on_device(void* address) {
  return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(address) + away);
}

void* on_host(const void* address) {
  const auto number = reinterpret_cast<std::uintptr_t>(address);
  return reinterpret_cast<void*>(number < away ? number : number - away);
}

struct Memory final : System {
  void* take(Index bytes) override {
    return on_device(std::malloc(static_cast<std::size_t>(bytes)));
  }
  void give_back(void* region, Index) override { std::free(on_host(region)); }
};

Memory memory;

struct DeviceAllocator final : CachingAllocator {
  explicit DeviceAllocator(int index)
      : CachingAllocator({Device::Type::cuda, index}, memory, {.region_size = 0}) {}

  void copy(const void* from, void* to, Index bytes) override {
    std::memcpy(on_host(to), on_host(from), static_cast<std::size_t>(bytes));
  }
};

// ---- the backend ----

// The tensors among the arguments of an entry.
template <typename T>
std::vector<Tensor*> tensors_of(T&) {
  return {};
}
std::vector<Tensor*> tensors_of(Tensor& x) {
  return {&x};
}
std::vector<Tensor*> tensors_of(std::vector<Tensor>& list) {
  std::vector<Tensor*> all;
  for (Tensor& x : list)
    all.push_back(&x);
  return all;
}
std::vector<Tensor*> tensors_of(BatchNormState& s) {
  return {&s.mean, &s.inverse_std};
}
std::vector<Tensor*> tensors_of(RunningStatistics& s) {
  return {&s.mean, &s.variance, &s.batches};
}
std::vector<Tensor*> tensors_of(CbamState& s) {
  return {&s.pooled, &s.pixel, &s.channel_weight, &s.maps, &s.channel, &s.pixel_weight};
}
std::vector<Tensor*> tensors_of(CbamParameters& p) {
  return {&p.gamma, &p.beta, &p.w1, &p.w2, &p.w7};
}

class DeviceBackend final : public Backend {
 public:
  DeviceBackend(DType dtype, int index)
      : device_{Device::Type::cuda, index}, cpu_(cpu_backend(dtype)) {}

  // Calls an entry of the CPU's backend with the tensors copied there, and copies back what it
  // changed.
  template <typename Entry, typename... Arguments>
  void run(Entry entry, const Arguments&... arguments) {
    std::tuple<Arguments...> copies(arguments...);
    std::vector<Tensor*> tensors;
    const auto collect = [&](auto& argument) {
      for (Tensor* tensor : tensors_of(argument))
        if (tensor->defined()) tensors.push_back(tensor);
    };
    std::apply([&](auto&... each) { (collect(each), ...); }, copies);
    std::vector<Tensor> originals;
    for (Tensor* tensor : tensors) {
      check(tensor->device() == device_, "a tensor on ", to_string(tensor->device()),
            " came to the backend of ", to_string(device_));
      originals.push_back(*tensor);
      *tensor = tensor->detach().to(Device::cpu);
    }
    std::apply([&](auto&... each) { (cpu_.*entry)(each...); }, copies);
    for (std::size_t i = 0; i < tensors.size(); ++i)
      if (tensors[i]->storage()->version > 0) originals[i].copy_from(*tensors[i]);
  }

  void fill(double value, Tensor& y) override { run(&Backend::fill, value, y); }
  void cast(const Tensor& x, Tensor& y) override { run(&Backend::cast, x, y); }
  void copy_rows(Index rows, Index length, const Tensor& from, Index from_offset, Index from_stride,
                 Tensor& to, Index to_offset, Index to_stride) override {
    run(&Backend::copy_rows, rows, length, from, from_offset, from_stride, to, to_offset,
        to_stride);
  }
  void permute(const Tensor& x, const std::vector<Index>& axes, Tensor& y) override {
    run(&Backend::permute, x, axes, y);
  }
  void uniform(std::uint64_t seed, std::uint64_t counter, Tensor& y) override {
    run(&Backend::uniform, seed, counter, y);
  }
  void normal(std::uint64_t seed, std::uint64_t counter, Tensor& y) override {
    run(&Backend::normal, seed, counter, y);
  }
  void unary(Unary f, const Tensor& x, Tensor& y) override { run(&Backend::unary, f, x, y); }
  void unary_backward(Unary f, const Tensor& x, const Tensor& y, const Tensor& dy,
                      Tensor& dx) override {
    run(&Backend::unary_backward, f, x, y, dy, dx);
  }
  void binary(Binary f, const Tensor& a, const Tensor& b, Tensor& y) override {
    run(&Backend::binary, f, a, b, y);
  }
  void scale_add(double alpha, const Tensor& x, double beta, Tensor& y) override {
    run(&Backend::scale_add, alpha, x, beta, y);
  }
  void sum(const AxisSizes& sizes, const Tensor& x, Tensor& y) override {
    run(&Backend::sum, sizes, x, y);
  }
  void max(const AxisSizes& sizes, const Tensor& x, Tensor& y, Tensor& position) override {
    run(&Backend::max, sizes, x, y, position);
  }
  void max_backward(const AxisSizes& sizes, const Tensor& position, const Tensor& dy,
                    Tensor& dx) override {
    run(&Backend::max_backward, sizes, position, dy, dx);
  }
  void matmul(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b,
              Tensor& y) override {
    run(&Backend::matmul, a, transpose_a, b, transpose_b, y);
  }
  void softmax(const Tensor& x, bool logarithm, Tensor& y) override {
    run(&Backend::softmax, x, logarithm, y);
  }
  void softmax_backward(const Tensor& y, bool logarithm, const Tensor& dy, Tensor& dx) override {
    run(&Backend::softmax_backward, y, logarithm, dy, dx);
  }
  void nll(const Tensor& log_probability, const Tensor& label, Tensor& loss) override {
    run(&Backend::nll, log_probability, label, loss);
  }
  void cross_entropy_backward(const Tensor& log_probability, const Tensor& label,
                              const Tensor& dloss, Tensor& dx) override {
    run(&Backend::cross_entropy_backward, log_probability, label, dloss, dx);
  }
  void conv2d(const Conv2dSizes& sizes, const Tensor& x, const Tensor& weight, Tensor& y) override {
    run(&Backend::conv2d, sizes, x, weight, y);
  }
  void conv2d_backward_input(const Conv2dSizes& sizes, const Tensor& dy, const Tensor& weight,
                             Tensor& dx) override {
    run(&Backend::conv2d_backward_input, sizes, dy, weight, dx);
  }
  void conv2d_backward_weight(const Conv2dSizes& sizes, const Tensor& x, const Tensor& dy,
                              Tensor& dweight) override {
    run(&Backend::conv2d_backward_weight, sizes, x, dy, dweight);
  }
  void max_pool2d(const Pool2dSizes& sizes, const Tensor& x, Tensor& y, Tensor& position) override {
    run(&Backend::max_pool2d, sizes, x, y, position);
  }
  void max_pool2d_backward(const Pool2dSizes& sizes, const Tensor& position, const Tensor& dy,
                           Tensor& dx) override {
    run(&Backend::max_pool2d_backward, sizes, position, dy, dx);
  }
  void batch_norm_statistics(const Tensor& x, bool training, double momentum, double eps,
                             RunningStatistics& running, BatchNormState& state) override {
    run(&Backend::batch_norm_statistics, x, training, momentum, eps, running, state);
  }
  void batch_norm(const Tensor& x, const BatchNormState& state, const Tensor& gamma,
                  const Tensor& beta, bool with_relu, Tensor& y) override {
    run(&Backend::batch_norm, x, state, gamma, beta, with_relu, y);
  }
  void batch_norm_backward(const Tensor& x, const BatchNormState& state, const Tensor& gamma,
                           const Tensor& beta, bool with_relu, bool training, const Tensor& dy,
                           Tensor& dx, Tensor& dgamma, Tensor& dbeta) override {
    run(&Backend::batch_norm_backward, x, state, gamma, beta, with_relu, training, dy, dx, dgamma,
        dbeta);
  }
  void layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps, Tensor& y,
                  Tensor& mean, Tensor& inverse_std) override {
    run(&Backend::layer_norm, x, gamma, beta, eps, y, mean, inverse_std);
  }
  void layer_norm_backward(const Tensor& x, const Tensor& mean, const Tensor& inverse_std,
                           const Tensor& gamma, const Tensor& dy, Tensor& dx, Tensor& dgamma,
                           Tensor& dbeta) override {
    run(&Backend::layer_norm_backward, x, mean, inverse_std, gamma, dy, dx, dgamma, dbeta);
  }
  void batch_norm_max_pool2d(const Pool2dSizes& sizes, const Tensor& x, const BatchNormState& state,
                             const Tensor& gamma, const Tensor& beta, Tensor& y, Tensor& winner,
                             Tensor& position) override {
    run(&Backend::batch_norm_max_pool2d, sizes, x, state, gamma, beta, y, winner, position);
  }
  void batch_norm_max_pool2d_backward(const Pool2dSizes& sizes, const Tensor& x,
                                      const BatchNormState& state, const Tensor& gamma,
                                      const Tensor& beta, bool training, const Tensor& winner,
                                      const Tensor& position, const Tensor& dy, Tensor& dx,
                                      Tensor& dgamma, Tensor& dbeta) override {
    run(&Backend::batch_norm_max_pool2d_backward, sizes, x, state, gamma, beta, training, winner,
        position, dy, dx, dgamma, dbeta);
  }
  void batch_norm_cbam(const CbamSizes& sizes, const Tensor& x, const BatchNormState& norm,
                       const CbamParameters& parameters, const Tensor& residual, Tensor& y,
                       CbamState& state) override {
    run(&Backend::batch_norm_cbam, sizes, x, norm, parameters, residual, y, state);
  }
  void batch_norm_cbam_backward(const CbamSizes& sizes, const Tensor& x, const BatchNormState& norm,
                                const CbamParameters& parameters, bool training, const Tensor& y,
                                const CbamState& state, const Tensor& dy, Tensor& dx,
                                Tensor& dresidual, CbamParameters& dparameters) override {
    run(&Backend::batch_norm_cbam_backward, sizes, x, norm, parameters, training, y, state, dy, dx,
        dresidual, dparameters);
  }
  void dropout_mask(double p, std::uint64_t seed, std::uint64_t counter, Tensor& mask) override {
    run(&Backend::dropout_mask, p, seed, counter, mask);
  }
  void sgd_step(const SgdStep& options, const Tensor& lr, const std::vector<Tensor>& grad,
                std::vector<Tensor>& velocity, std::vector<Tensor>& w) override {
    run(&Backend::sgd_step, options, lr, grad, velocity, w);
  }
  void adamw_step(const AdamWStep& options, const Tensor& lr, const std::vector<Tensor>& grad,
                  Tensor& steps, std::vector<Tensor>& m, std::vector<Tensor>& v,
                  std::vector<Tensor>& w) override {
    run(&Backend::adamw_step, options, lr, grad, steps, m, v, w);
  }

 private:
  Device device_;
  Backend& cpu_;
};

}  // namespace

Backend& cuda_backend(DType dtype, int index) {
  static std::array<DeviceBackend, 2> single = {DeviceBackend(DType::float32, 0),
                                                DeviceBackend(DType::float32, 1)};
  static std::array<DeviceBackend, 2> precise = {DeviceBackend(DType::float64, 0),
                                                 DeviceBackend(DType::float64, 1)};
  return (dtype == DType::float32 ? single : precise).at(static_cast<std::size_t>(index));
}

void cuda_check_device(int index) {
  check(index < 2, "there is no device cuda:", index);
}

std::string cuda_name(int index) {
  return "cuda:" + std::to_string(index);
}

std::string cuda_description(int) {
  return "the tests' second device";
}

std::unique_ptr<Recorder> make_recorder(Device) {
  return nullptr;
}

Allocator& cuda_allocator(int index) {
  cuda_check_device(index);
  // Never destroyed, like the CPU's.
  static auto& allocators =
      *new std::array<DeviceAllocator, 2>{DeviceAllocator(0), DeviceAllocator(1)};
  return allocators.at(static_cast<std::size_t>(index));
}

Tensor cuda_augment(const Tensor& images, const std::vector<AugmentParameters>& parameters) {
  return augment(images.to(Device::cpu), parameters).to(images.device());
}

bool cuda_available() {
  return true;
}

}  // namespace chalk
