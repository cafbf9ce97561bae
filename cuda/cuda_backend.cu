// The CUDA backend: each method unpacks its tensors to device pointers and sizes and calls one
// launcher. Nothing here waits for the device.
#include <deque>

#include "autograd/backend.h"
#include "autograd/check.h"
#include "autograd/devices.h"
#include "autograd/unpack.h"
#include "cuda/batch_norm.cuh"
#include "cuda/conv2d.h"
#include "cuda/fused_cbam.h"
#include "cuda/fused_stem.cuh"
#include "cuda/layer_norm.cuh"
#include "cuda/matmul.h"
#include "cuda/movement.cuh"
#include "cuda/optimizer_step.cuh"
#include "cuda/pool.cuh"
#include "cuda/random_fill.cuh"
#include "cuda/reduce.cuh"
#include "cuda/softmax.cuh"
#include "cuda/tensors.h"

namespace chalk::cuda {

template <typename T>
class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int device) : device_(device) {}

  // ---- filling, moving, converting ----

  void fill(double value, Tensor& y) override {
    const Call call(device_, "fill", {&y});
    cuda::fill(y.numel(), static_cast<T>(value), out<T>(y));
  }

  void cast(const Tensor& x, Tensor& y) override {
    const Call call(device_, "to", {&x});
    if (x.dtype() == dtype_of<T>())
      with_type(y.dtype(), [&](auto to) { cuda::cast(x.numel(), in<T>(x), out<decltype(to)>(y)); });
    else
      with_type(x.dtype(),
                [&](auto from) { cuda::cast(x.numel(), in<decltype(from)>(x), out<T>(y)); });
  }

  void copy_rows(Index rows, Index length, const Tensor& from, Index from_offset, Index from_stride,
                 Tensor& to, Index to_offset, Index to_stride) override {
    const Call call(device_, "copy_rows", {&from, &to});
    with_type(from.dtype(), [&](auto element) {
      using E = decltype(element);
      cuda::copy_rows(rows, length, in<E>(from) + from_offset, from_stride, out<E>(to) + to_offset,
                      to_stride);
    });
  }

  void permute(const Tensor& x, const std::vector<Index>& axes, Tensor& y) override {
    const Call call(device_, "permute", {&x});
    with_type(x.dtype(), [&](auto element) {
      using E = decltype(element);
      cuda::permute(x.shape(), axes, in<E>(x), out<E>(y));
    });
  }

  void uniform(std::uint64_t seed, std::uint64_t counter, Tensor& y) override {
    const Call call(device_, "rand", {&y});
    cuda::uniform(y.numel(), seed, counter, out<T>(y));
  }

  void normal(std::uint64_t seed, std::uint64_t counter, Tensor& y) override {
    const Call call(device_, "randn", {&y});
    cuda::normal(y.numel(), seed, counter, out<T>(y));
  }

  // ---- elementwise ----

  void unary(Unary f, const Tensor& x, Tensor& y) override {
    const Call call(device_, "unary", {&x});
    cuda::unary(f, x.numel(), in<T>(x), out<T>(y));
  }

  void unary_backward(Unary f, const Tensor& x, const Tensor& y, const Tensor& dy,
                      Tensor& dx) override {
    const Call call(device_, "unary_backward", {&dy});
    cuda::unary_backward(f, dx.numel(), in<T>(x), in<T>(y), in<T>(dy), out<T>(dx));
  }

  void binary(Binary f, const Tensor& a, const Tensor& b, Tensor& y) override {
    const Call call(device_, "binary", {&a, &b});
    cuda::binary(f, a.shape(), in<T>(a), b.shape(), in<T>(b), y.shape(), out<T>(y));
  }

  void scale_add(double alpha, const Tensor& x, double beta, Tensor& y) override {
    const Call call(device_, "scale_add", {&x});
    cuda::scale_add(y.numel(), static_cast<T>(alpha), in<T>(x), static_cast<T>(beta), out<T>(y));
  }

  // ---- along one axis ----

  void sum(const AxisSizes& sizes, const Tensor& x, Tensor& y) override {
    const Call call(device_, "sum", {&x});
    cuda::sum(sizes, in<T>(x), out<T>(y));
  }

  void max(const AxisSizes& sizes, const Tensor& x, Tensor& y, Tensor& position) override {
    const Call call(device_, "max", {&x});
    cuda::max(sizes, in<T>(x), out<T>(y), out<std::int64_t>(position));
  }

  void max_backward(const AxisSizes& sizes, const Tensor& position, const Tensor& dy,
                    Tensor& dx) override {
    const Call call(device_, "max_backward", {&dy, &dx});
    cuda::max_backward(sizes, in<std::int64_t>(position), in<T>(dy), out<T>(dx));
  }

  // ---- matrices ----

  void matmul(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b,
              Tensor& y) override {
    const Call call(device_, "matmul", {&a, &b});
    const Index batch = y.size(0), rows = y.size(1), columns = y.size(2);
    const Index inner = a.size(transpose_a ? 1 : 2);
    cuda::matmul(batch, rows, inner, columns, in<T>(a), a.size(0) == 1 ? 0 : rows * inner,
                 transpose_a, in<T>(b), b.size(0) == 1 ? 0 : inner * columns, transpose_b,
                 out<T>(y));
  }

  // ---- softmax and loss ----

  void softmax(const Tensor& x, bool logarithm, Tensor& y) override {
    const Call call(device_, "softmax", {&x});
    const auto compute = logarithm ? cuda::log_softmax<T> : cuda::softmax<T>;
    compute(rows_of(x), columns_of(x), in<T>(x), out<T>(y));
  }

  void softmax_backward(const Tensor& y, bool logarithm, const Tensor& dy, Tensor& dx) override {
    const Call call(device_, "softmax_backward", {&dy});
    const auto compute = logarithm ? cuda::log_softmax_backward<T> : cuda::softmax_backward<T>;
    compute(rows_of(y), columns_of(y), in<T>(y), in<T>(dy), out<T>(dx));
  }

  void nll(const Tensor& log_probability, const Tensor& label, Tensor& loss) override {
    const Call call(device_, "cross_entropy", {&log_probability, &label});
    cuda::nll(label.numel(), columns_of(log_probability), in<T>(log_probability),
              in<std::int64_t>(label), out<T>(loss));
  }

  void cross_entropy_backward(const Tensor& log_probability, const Tensor& label,
                              const Tensor& dloss, Tensor& dx) override {
    const Call call(device_, "cross_entropy_backward", {&log_probability, &label});
    cuda::cross_entropy_backward(label.numel(), columns_of(log_probability), in<T>(log_probability),
                                 in<std::int64_t>(label), in<T>(dloss), out<T>(dx));
  }

  // ---- convolution ----

  void conv2d(const Conv2dSizes& sizes, const Tensor& x, const Tensor& weight, Tensor& y) override {
    const Call call(device_, "conv2d", {&x, &weight});
    conv2d_forward(sizes, in<T>(x), in<T>(weight), out<T>(y));
  }

  void conv2d_backward_input(const Conv2dSizes& sizes, const Tensor& dy, const Tensor& weight,
                             Tensor& dx) override {
    const Call call(device_, "conv2d_backward_input", {&dy, &weight});
    cuda::conv2d_backward_input(sizes, in<T>(dy), in<T>(weight), out<T>(dx));
  }

  void conv2d_backward_weight(const Conv2dSizes& sizes, const Tensor& x, const Tensor& dy,
                              Tensor& dweight) override {
    const Call call(device_, "conv2d_backward_weight", {&x, &dy});
    cuda::conv2d_backward_weight(sizes, in<T>(x), in<T>(dy), out<T>(dweight));
  }

  // ---- pooling ----

  void max_pool2d(const Pool2dSizes& sizes, const Tensor& x, Tensor& y, Tensor& position) override {
    const Call call(device_, "max_pool2d", {&x});
    cuda::max_pool2d(sizes, in<T>(x), out<T>(y), out<std::uint8_t>(position));
  }

  void max_pool2d_backward(const Pool2dSizes& sizes, const Tensor& position, const Tensor& dy,
                           Tensor& dx) override {
    const Call call(device_, "max_pool2d_backward", {&dy});
    cuda::max_pool2d_backward(sizes, in<std::uint8_t>(position), in<T>(dy), out<T>(dx));
  }

  // ---- normalisation ----

  void batch_norm_statistics(const Tensor& x, bool training, double momentum, double eps,
                             RunningStatistics& running, BatchNormState& state) override {
    const Call call(device_, "batch_norm", {&x});
    if (!training)
      return batch_norm_inverse_std(columns_of(x), in<T>(running.variance), static_cast<T>(eps),
                                    out<T>(state.inverse_std));
    cuda::batch_norm_statistics(rows_of(x), columns_of(x), in<T>(x), momentum, eps,
                                out<T>(running.mean), out<T>(running.variance),
                                out_if_defined<std::int64_t>(running.batches), out<T>(state.mean),
                                out<T>(state.inverse_std));
  }

  void batch_norm(const Tensor& x, const BatchNormState& state, const Tensor& gamma,
                  const Tensor& beta, bool with_relu, Tensor& y) override {
    const Call call(device_, "batch_norm", {&x});
    cuda::batch_norm(rows_of(x), columns_of(x), in<T>(x), in<T>(state.mean),
                     in<T>(state.inverse_std), in<T>(gamma), in<T>(beta), with_relu, out<T>(y));
  }

  void batch_norm_backward(const Tensor& x, const BatchNormState& state, const Tensor& gamma,
                           const Tensor& beta, bool with_relu, bool training, const Tensor& dy,
                           Tensor& dx, Tensor& dgamma, Tensor& dbeta) override {
    const Call call(device_, "batch_norm_backward", {&x});
    cuda::batch_norm_backward(rows_of(x), columns_of(x), in<T>(x), in<T>(state.mean),
                              in<T>(state.inverse_std), in<T>(gamma), in<T>(beta), with_relu,
                              training, in<T>(dy), out<T>(dx), out<T>(dgamma), out<T>(dbeta));
  }

  void layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps, Tensor& y,
                  Tensor& mean, Tensor& inverse_std) override {
    const Call call(device_, "layer_norm", {&x});
    cuda::layer_norm(rows_of(x), columns_of(x), in<T>(x), in<T>(gamma), in<T>(beta), eps, out<T>(y),
                     out<T>(mean), out<T>(inverse_std));
  }

  void layer_norm_backward(const Tensor& x, const Tensor& mean, const Tensor& inverse_std,
                           const Tensor& gamma, const Tensor& dy, Tensor& dx, Tensor& dgamma,
                           Tensor& dbeta) override {
    const Call call(device_, "layer_norm_backward", {&x});
    cuda::layer_norm_backward(rows_of(x), columns_of(x), in<T>(x), in<T>(mean), in<T>(inverse_std),
                              in<T>(gamma), in<T>(dy), out<T>(dx), out<T>(dgamma), out<T>(dbeta));
  }

  // ---- fused ----

  void batch_norm_max_pool2d(const Pool2dSizes& sizes, const Tensor& x, const BatchNormState& state,
                             const Tensor& gamma, const Tensor& beta, Tensor& y, Tensor& winner,
                             Tensor& position) override {
    const Call call(device_, "batch_norm_max_pool2d", {&x});
    cuda::batch_norm_max_pool2d(sizes, in<T>(x), in<T>(state.mean), in<T>(state.inverse_std),
                                in<T>(gamma), in<T>(beta), out<T>(y), out_if_defined<T>(winner),
                                out_if_defined<std::uint8_t>(position));
  }

  void batch_norm_max_pool2d_backward(const Pool2dSizes& sizes, const Tensor& x,
                                      const BatchNormState& state, const Tensor& gamma,
                                      const Tensor& beta, bool training, const Tensor& winner,
                                      const Tensor& position, const Tensor& dy, Tensor& dx,
                                      Tensor& dgamma, Tensor& dbeta) override {
    const Call call(device_, "batch_norm_max_pool2d_backward", {&x});
    cuda::batch_norm_max_pool2d_backward(sizes, in<T>(x), in<T>(state.mean),
                                         in<T>(state.inverse_std), in<T>(gamma), in<T>(beta),
                                         training, in<T>(winner), in<std::uint8_t>(position),
                                         in<T>(dy), out<T>(dx), out<T>(dgamma), out<T>(dbeta));
  }

  void batch_norm_cbam(const CbamSizes& sizes, const Tensor& x, const BatchNormState& norm,
                       const CbamParameters& parameters, const Tensor& residual, Tensor& y,
                       CbamState& state) override {
    const Call call(device_, "batch_norm_cbam", {&x});
    cbam_forward(sizes, cbam_weights(norm, parameters), in<T>(x), in<T>(residual), images(state),
                 out<T>(y));
  }

  void batch_norm_cbam_backward(const CbamSizes& sizes, const Tensor& x, const BatchNormState& norm,
                                const CbamParameters& parameters, bool training, const Tensor& y,
                                const CbamState& state, const Tensor& dy, Tensor& dx,
                                Tensor& dresidual, CbamParameters& dparameters) override {
    const Call call(device_, "batch_norm_cbam_backward", {&x});
    CbamState kept = state;
    cbam_backward(
        sizes, cbam_weights(norm, parameters), images(kept), training, in<T>(x), in<T>(y),
        in<T>(dy),
        {out<T>(dx), out<T>(dresidual), out<T>(dparameters.gamma), out<T>(dparameters.beta),
         out<T>(dparameters.w1), out<T>(dparameters.w2), out<T>(dparameters.w7)});
  }

  // ---- dropout ----

  void dropout_mask(double p, std::uint64_t seed, std::uint64_t counter, Tensor& mask) override {
    const Call call(device_, "dropout", {&mask});
    cuda::dropout_mask(mask.numel(), p, seed, counter, out<T>(mask));
  }

  // ---- optimisers ----

  void sgd_step(const SgdStep& options, const Tensor& lr, const std::vector<Tensor>& grad,
                std::vector<Tensor>& velocity, std::vector<Tensor>& w) override {
    const Call call(device_, "sgd_step", {});
    cuda::sgd_step<T>(options, in<double>(lr), grad, velocity, w);
  }

  void adamw_step(const AdamWStep& options, const Tensor& lr, const std::vector<Tensor>& grad,
                  Tensor& steps, std::vector<Tensor>& m, std::vector<Tensor>& v,
                  std::vector<Tensor>& w) override {
    const Call call(device_, "adamw_step", {});
    cuda::adamw_step<T>(options, in<double>(lr), grad, out<std::int64_t>(steps), m, v, w);
  }

 private:
  static CbamWeights<T> cbam_weights(const BatchNormState& norm, const CbamParameters& parameters) {
    return {in<T>(norm.mean),       in<T>(norm.inverse_std), in<T>(parameters.gamma),
            in<T>(parameters.beta), in<T>(parameters.w1),    in<T>(parameters.w2),
            in<T>(parameters.w7)};
  }

  static CbamImages<T> images(CbamState& state) {
    return {out<T>(state.pooled), out<std::int64_t>(state.pixel),   out<T>(state.channel_weight),
            out<T>(state.maps),   out<std::int64_t>(state.channel), out<T>(state.pixel_weight)};
  }

  const int device_;
};

}  // namespace chalk::cuda

chalk::Backend& chalk::cuda_backend(DType dtype, int index) {
  cuda_check_device(index);
  using Single = cuda::CudaBackend<float>;
  using Double = cuda::CudaBackend<double>;
  static std::deque<std::pair<Single, Double>> backends;  // where each stays where it is
  while (static_cast<int>(backends.size()) <= index) {
    const int next = static_cast<int>(backends.size());
    backends.emplace_back(Single(next), Double(next));
  }
  auto& [single, precise] = backends[static_cast<std::size_t>(index)];
  if (dtype == DType::float32) return single;
  return precise;
}
