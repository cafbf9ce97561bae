// The CPU backend: each method unpacks its tensors to pointers and sizes and calls one kernel.
#include "autograd/check.h"
#include "autograd/cpu/fused_cbam.h"
#include "autograd/cpu/fused_stem.h"
#include "autograd/cpu/ladders.h"
#include "autograd/cpu/layer_norm.h"
#include "autograd/cpu/movement.h"
#include "autograd/cpu/optimizer_step.h"
#include "autograd/cpu/packed_cache.h"
#include "autograd/cpu/pool.h"
#include "autograd/cpu/random_fill.h"
#include "autograd/cpu/softmax.h"
#include "autograd/devices.h"
#include "autograd/node.h"
#include "autograd/unpack.h"

namespace chalk {
namespace cpu {

template <typename T>
class CpuBackend final : public Backend {
 public:
  // ---- filling, moving, converting ----

  void fill(double value, Tensor& y) override {
    cpu::fill(y.numel(), static_cast<T>(value), out(y));
  }

  void cast(const Tensor& x, Tensor& y) override {
    if (x.dtype() == dtype_of<T>())
      with_type(y.dtype(),
                [&](auto to) { cpu::cast(x.numel(), in(x), y.mutable_data<decltype(to)>()); });
    else
      with_type(x.dtype(),
                [&](auto from) { cpu::cast(x.numel(), x.data<decltype(from)>(), out(y)); });
  }

  void copy_rows(Index rows, Index length, const Tensor& from, Index from_offset, Index from_stride,
                 Tensor& to, Index to_offset, Index to_stride) override {
    with_type(from.dtype(), [&](auto element) {
      using E = decltype(element);
      cpu::copy_rows(rows, length, from.data<E>() + from_offset, from_stride,
                     to.mutable_data<E>() + to_offset, to_stride);
    });
  }

  void permute(const Tensor& x, const std::vector<Index>& axes, Tensor& y) override {
    with_type(x.dtype(), [&](auto element) {
      using E = decltype(element);
      cpu::permute(x.shape(), axes, x.data<E>(), y.mutable_data<E>());
    });
  }

  void uniform(std::uint64_t seed, std::uint64_t counter, Tensor& y) override {
    cpu::uniform(y.numel(), seed, counter, out(y));
  }

  void normal(std::uint64_t seed, std::uint64_t counter, Tensor& y) override {
    cpu::normal(y.numel(), seed, counter, out(y));
  }

  // ---- elementwise ----

  void unary(Unary f, const Tensor& x, Tensor& y) override {
    cpu::unary(f, x.numel(), in(x), out(y));
  }

  void unary_backward(Unary f, const Tensor& x, const Tensor& y, const Tensor& dy,
                      Tensor& dx) override {
    cpu::unary_backward(f, dx.numel(), in(x), in(y), in(dy), out(dx));
  }

  void binary(Binary f, const Tensor& a, const Tensor& b, Tensor& y) override {
    cpu::binary(f, a.shape(), in(a), b.shape(), in(b), y.shape(), out(y));
  }

  void scale_add(double alpha, const Tensor& x, double beta, Tensor& y) override {
    cpu::scale_add(y.numel(), static_cast<T>(alpha), in(x), static_cast<T>(beta), out(y));
  }

  // ---- along one axis ----

  void sum(const AxisSizes& sizes, const Tensor& x, Tensor& y) override {
    cpu::sum(sizes, in(x), out(y));
  }

  void max(const AxisSizes& sizes, const Tensor& x, Tensor& y, Tensor& position) override {
    cpu::max(sizes, in(x), out(y), position.mutable_data<std::int64_t>());
  }

  void max_backward(const AxisSizes& sizes, const Tensor& position, const Tensor& dy,
                    Tensor& dx) override {
    cpu::max_backward(sizes, position.data<std::int64_t>(), in(dy), out(dx));
  }

  // ---- matrices ----

  void matmul(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b,
              Tensor& y) override {
    const Index batch = y.size(0), rows = y.size(1), columns = y.size(2);
    const Index inner = a.size(transpose_a ? 1 : 2);
    cpu::matmul(batch, rows, inner, columns, in(a), a.size(0) == 1 ? 0 : rows * inner, transpose_a,
                in(b), b.size(0) == 1 ? 0 : inner * columns, transpose_b, out(y), matmul_rung());
  }

  // ---- softmax and loss ----

  void softmax(const Tensor& x, bool logarithm, Tensor& y) override {
    const auto compute = logarithm ? cpu::log_softmax<T> : cpu::softmax<T>;
    compute(rows_of(x), columns_of(x), in(x), out(y));
  }

  void softmax_backward(const Tensor& y, bool logarithm, const Tensor& dy, Tensor& dx) override {
    const auto compute = logarithm ? cpu::log_softmax_backward<T> : cpu::softmax_backward<T>;
    compute(rows_of(y), columns_of(y), in(y), in(dy), out(dx));
  }

  void nll(const Tensor& log_probability, const Tensor& label, Tensor& loss) override {
    *out(loss) = cpu::nll(label.numel(), columns_of(log_probability), in(log_probability),
                          label.data<std::int64_t>());
  }

  void cross_entropy_backward(const Tensor& log_probability, const Tensor& label,
                              const Tensor& dloss, Tensor& dx) override {
    cpu::cross_entropy_backward(label.numel(), columns_of(log_probability), in(log_probability),
                                label.data<std::int64_t>(), *in(dloss), out(dx));
  }

  // ---- convolution ----

  void conv2d(const Conv2dSizes& sizes, const Tensor& x, const Tensor& weight, Tensor& y) override {
    const ConvRung rung = conv_rung();
    std::shared_ptr<const PackedWeights<T>> packed;
    if (!grad_enabled()) packed = packed_.get(sizes, weight, rung);
    conv2d_forward(sizes, in(x), in(weight), out(y), rung, packed.get());
  }

  void conv2d_backward_input(const Conv2dSizes& sizes, const Tensor& dy, const Tensor& weight,
                             Tensor& dx) override {
    cpu::conv2d_backward_input(sizes, in(dy), in(weight), out(dx), conv_rung());
  }

  void conv2d_backward_weight(const Conv2dSizes& sizes, const Tensor& x, const Tensor& dy,
                              Tensor& dweight) override {
    cpu::conv2d_backward_weight(sizes, in(x), in(dy), out(dweight), conv_rung());
  }

  // ---- pooling ----

  void max_pool2d(const Pool2dSizes& sizes, const Tensor& x, Tensor& y, Tensor& position) override {
    cpu::max_pool2d(sizes, in(x), out(y), position.mutable_data<std::uint8_t>());
  }

  void max_pool2d_backward(const Pool2dSizes& sizes, const Tensor& position, const Tensor& dy,
                           Tensor& dx) override {
    cpu::max_pool2d_backward(sizes, position.data<std::uint8_t>(), in(dy), out(dx));
  }

  // ---- normalisation ----

  void batch_norm_statistics(const Tensor& x, bool training, double momentum, double eps,
                             RunningStatistics& running, BatchNormState& state) override {
    if (!training)
      return batch_norm_inverse_std(columns_of(x), in(running.variance), static_cast<T>(eps),
                                    out(state.inverse_std));
    cpu::batch_norm_statistics(rows_of(x), columns_of(x), in(x), momentum, eps, out(running.mean),
                               out(running.variance), out(state.mean), out(state.inverse_std));
    if (running.batches.defined()) ++*running.batches.mutable_data<std::int64_t>();
  }

  void batch_norm(const Tensor& x, const BatchNormState& state, const Tensor& gamma,
                  const Tensor& beta, bool with_relu, Tensor& y) override {
    cpu::batch_norm(rows_of(x), columns_of(x), in(x), in(state.mean), in(state.inverse_std),
                    in(gamma), in(beta), with_relu, out(y));
  }

  void batch_norm_backward(const Tensor& x, const BatchNormState& state, const Tensor& gamma,
                           const Tensor& beta, bool with_relu, bool training, const Tensor& dy,
                           Tensor& dx, Tensor& dgamma, Tensor& dbeta) override {
    cpu::batch_norm_backward(rows_of(x), columns_of(x), in(x), in(state.mean),
                             in(state.inverse_std), in(gamma), in(beta), with_relu, training,
                             in(dy), out(dx), out(dgamma), out(dbeta));
  }

  void layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps, Tensor& y,
                  Tensor& mean, Tensor& inverse_std) override {
    cpu::layer_norm(rows_of(x), columns_of(x), in(x), in(gamma), in(beta), eps, out(y), out(mean),
                    out(inverse_std));
  }

  void layer_norm_backward(const Tensor& x, const Tensor& mean, const Tensor& inverse_std,
                           const Tensor& gamma, const Tensor& dy, Tensor& dx, Tensor& dgamma,
                           Tensor& dbeta) override {
    cpu::layer_norm_backward(rows_of(x), columns_of(x), in(x), in(mean), in(inverse_std), in(gamma),
                             in(dy), out(dx), out(dgamma), out(dbeta));
  }

  // ---- fused ----

  void batch_norm_max_pool2d(const Pool2dSizes& sizes, const Tensor& x, const BatchNormState& state,
                             const Tensor& gamma, const Tensor& beta, Tensor& y, Tensor& winner,
                             Tensor& position) override {
    cpu::batch_norm_max_pool2d(
        sizes, in(x), in(state.mean), in(state.inverse_std), in(gamma), in(beta), out(y),
        winner.defined() ? out(winner) : nullptr,
        position.defined() ? position.mutable_data<std::uint8_t>() : nullptr);
  }

  void batch_norm_max_pool2d_backward(const Pool2dSizes& sizes, const Tensor& x,
                                      const BatchNormState& state, const Tensor& gamma,
                                      const Tensor& beta, bool training, const Tensor& winner,
                                      const Tensor& position, const Tensor& dy, Tensor& dx,
                                      Tensor& dgamma, Tensor& dbeta) override {
    cpu::batch_norm_max_pool2d_backward(
        sizes, in(x), in(state.mean), in(state.inverse_std), in(gamma), in(beta), training,
        in(winner), position.data<std::uint8_t>(), in(dy), out(dx), out(dgamma), out(dbeta));
  }

  void batch_norm_cbam(const CbamSizes& sizes, const Tensor& x, const BatchNormState& norm,
                       const CbamParameters& parameters, const Tensor& residual, Tensor& y,
                       CbamState& state) override {
    Scratch scratch;
    cbam_forward(sizes, cbam_weights(norm, parameters, scratch), in(x), in(residual), images(state),
                 out(y));
  }

  void batch_norm_cbam_backward(const CbamSizes& sizes, const Tensor& x, const BatchNormState& norm,
                                const CbamParameters& parameters, bool training, const Tensor& y,
                                const CbamState& state, const Tensor& dy, Tensor& dx,
                                Tensor& dresidual, CbamParameters& dparameters) override {
    CbamState kept = state;
    Scratch scratch;
    cbam_backward(sizes, cbam_weights(norm, parameters, scratch), images(kept),
                  in(norm.inverse_std), training, in(x), in(y), in(dy),
                  {out(dx), out(dresidual), out(dparameters.gamma), out(dparameters.beta),
                   out(dparameters.w1), out(dparameters.w2), out(dparameters.w7)});
  }

  // ---- dropout ----

  void dropout_mask(double p, std::uint64_t seed, std::uint64_t counter, Tensor& mask) override {
    cpu::dropout_mask(mask.numel(), p, seed, counter, out(mask));
  }

  // ---- optimisers ----

  void sgd_step(const SgdStep& options, const Tensor& lr, const std::vector<Tensor>& grad,
                std::vector<Tensor>& velocity, std::vector<Tensor>& w) override {
    for (std::size_t i = 0; i < w.size(); ++i) {
      if (!grad[i].defined()) continue;
      T* moving = velocity[i].defined() ? out(velocity[i]) : nullptr;
      cpu::sgd_step(options, *lr.data<double>(), w[i].numel(), in(grad[i]), moving, out(w[i]));
    }
  }

  void adamw_step(const AdamWStep& options, const Tensor& lr, const std::vector<Tensor>& grad,
                  Tensor& steps, std::vector<Tensor>& m, std::vector<Tensor>& v,
                  std::vector<Tensor>& w) override {
    std::int64_t* t = steps.mutable_data<std::int64_t>();
    for (std::size_t i = 0; i < w.size(); ++i)
      if (grad[i].defined())
        cpu::adamw_step(options, *lr.data<double>(), ++t[i], w[i].numel(), in(grad[i]), out(m[i]),
                        out(v[i]), out(w[i]));
  }

 private:
  static const T* in(const Tensor& x) { return x.data<T>(); }
  static T* out(Tensor& y) { return y.mutable_data<T>(); }

  static CbamWeights<T> cbam_weights(const BatchNormState& norm, const CbamParameters& parameters,
                                     Scratch& scratch) {
    const T* scale = batch_norm_scale(parameters.gamma.numel(), in(parameters.gamma),
                                      in(norm.inverse_std), scratch);
    return {in(norm.mean),    scale, in(parameters.beta), in(parameters.w1), in(parameters.w2),
            in(parameters.w7)};
  }

  static CbamImages<T> images(CbamState& state) {
    return {
        out(state.pooled), state.pixel.mutable_data<std::int64_t>(),   out(state.channel_weight),
        out(state.maps),   state.channel.mutable_data<std::int64_t>(), out(state.pixel_weight)};
  }

  PackedCache<T> packed_;  // of weights used outside of training
};

}  // namespace cpu

Backend& cpu_backend(DType dtype) {
  static cpu::CpuBackend<float> single_precision;
  static cpu::CpuBackend<double> double_precision;
  if (dtype == DType::float32) return single_precision;
  return double_precision;
}

}  // namespace chalk
