// Backend: everything a device must be able to do, each entry with its formula and shapes.
//
// There is one instance per device and element type T (float32 or float64), so one virtual call
// chooses both. Operations have checked shapes and types, and allocated the results, before they
// come here; a backend unpacks the tensors and runs kernels that know only pointers and sizes.
// Unless said otherwise all tensors are of type T, results are overwritten, and names are
//   x, y: input and result of an operation      dx, dy: d loss / d x, d loss / d y
#pragma once

#include "autograd/tensor.h"

namespace chalk {

enum class Unary { exp, log, sqrt, relu, sigmoid, tanh };
enum class Binary { add, subtract, multiply, divide };

// A tensor seen along one axis: [outer, length, inner].
struct AxisSizes {
  Index outer, length, inner;
};

// How batch norm's two passes see the batch. Tensors of [channels].
struct BatchNormState {
  Tensor mean;         // of the batch, or the running one
  Tensor inverse_std;  // 1 / sqrt(variance + eps)
};

// What batch norm collects in training for evaluation: mean and variance [channels], and how many
// batches it has seen, an int64 scalar that may be undefined.
struct RunningStatistics {
  Tensor mean, variance, batches = {};
};

// What batch_norm_cbam keeps for its backward pass; P = height * width.
struct CbamState {
  Tensor pooled;          // [batch, 2, channels]: mean and maximum over the pixels
  Tensor pixel;           // int64 [batch, channels]: where that maximum was found
  Tensor channel_weight;  // [batch, channels]: the channel attention
  Tensor maps;            // [batch, 2, P]: mean and maximum over the weighted channels
  Tensor channel;         // int64 [batch, P]: where that maximum was found
  Tensor pixel_weight;    // [batch, P]: the spatial attention
};

// What batch_norm_cbam is given besides its input: batch norm's gamma and beta [channels], the
// channel attention's layers w1 [channels, hidden] and w2 [hidden, channels], the spatial
// attention's convolution w7 [7, 7, 2].
struct CbamParameters {
  Tensor gamma, beta, w1, w2, w7;
};

// The hyper-parameters of optimisers that are the same in every step.
struct AdamWStep {
  double beta1, beta2, eps, weight_decay;
};

struct SgdStep {
  double momentum, weight_decay;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // ---- filling, moving, converting ----

  virtual void fill(double value, Tensor& y) = 0;

  // y of float32, float64, int64 or uint8 = x of any of them; one of the two is of type T.
  virtual void cast(const Tensor& x, Tensor& y) = 0;

  // to[to_offset + r * to_stride + i] = from[from_offset + r * from_stride + i]
  // for r < rows, i < length: what slices and concatenations are made of. Both of any one type.
  virtual void copy_rows(Index rows, Index length, const Tensor& from, Index from_offset,
                         Index from_stride, Tensor& to, Index to_offset, Index to_stride) = 0;

  // y[i_axes[0], i_axes[1], ...] = x[i_0, i_1, ...]: axis a of y is axis axes[a] of x. Both of any
  // one type.
  virtual void permute(const Tensor& x, const std::vector<Index>& axes, Tensor& y) = 0;

  // y_i = number (counter + i) of the stream `seed`: Generator::uniform_at, in [0, 1); in float32
  // rounded down to 24 bits, lest it become 1.
  virtual void uniform(std::uint64_t seed, std::uint64_t counter, Tensor& y) = 0;

  // y_i = sqrt(-2 log(1 - u1)) cos(2 pi u2), u1 and u2 the numbers 2 (counter + i) and the one
  // after it of the stream `seed` (Box-Muller).
  virtual void normal(std::uint64_t seed, std::uint64_t counter, Tensor& y) = 0;

  // ---- elementwise ----

  // y = f(x)
  virtual void unary(Unary f, const Tensor& x, Tensor& y) = 0;

  // dx = dy f'(x), from whichever of x and y = f(x) is simpler.
  virtual void unary_backward(Unary f, const Tensor& x, const Tensor& y, const Tensor& dy,
                              Tensor& dx) = 0;

  // y = a f b. Shapes are broadcast to y's: aligned at the last axis, size 1 repeats.
  virtual void binary(Binary f, const Tensor& a, const Tensor& b, Tensor& y) = 0;

  // y = alpha x + beta y; where beta is 0, y's old elements do not matter.
  virtual void scale_add(double alpha, const Tensor& x, double beta, Tensor& y) = 0;

  // ---- along one axis: x [outer, length, inner], y [outer, inner] ----

  virtual void sum(const AxisSizes& sizes, const Tensor& x, Tensor& y) = 0;

  // y = the maximum, position (int64) = where it is first found along the axis; a NaN wins.
  virtual void max(const AxisSizes& sizes, const Tensor& x, Tensor& y, Tensor& position) = 0;

  // dx = dy at the position of the maximum, 0 elsewhere.
  virtual void max_backward(const AxisSizes& sizes, const Tensor& position, const Tensor& dy,
                            Tensor& dx) = 0;

  // ---- matrices ----

  // y[b] = op(a[b]) op(b[b]), op = transposition where the flag is set.
  // y [batch, rows, columns]; op(a) [rows, inner] and op(b) [inner, columns] for every b; a or b
  // with a batch of 1 serves all.
  virtual void matmul(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b,
                      Tensor& y) = 0;

  // ---- softmax and loss, over the last axis: x [rows, classes] ----

  // y = exp(x) / sum exp(x);            dx = y (dy - sum(dy y))
  // logarithm: y = x - log sum exp(x);  dx = dy - exp(y) sum(dy)
  virtual void softmax(const Tensor& x, bool logarithm, Tensor& y) = 0;
  virtual void softmax_backward(const Tensor& y, bool logarithm, const Tensor& dy, Tensor& dx) = 0;

  // loss (scalar) = -mean over rows of log_probability[row, label[row]]; label int64 [rows].
  // A label not in 0 .. classes - 1 is an Error. A device that would have to wait for the labels
  // makes the loss NaN instead.
  virtual void nll(const Tensor& log_probability, const Tensor& label, Tensor& loss) = 0;

  // dx = dloss (exp(log_probability) - one_hot(label)) / rows, where nll took the labels
  virtual void cross_entropy_backward(const Tensor& log_probability, const Tensor& label,
                                      const Tensor& dloss, Tensor& dx) = 0;

  // ---- convolution: see Conv2dSizes for shapes ----

  // y[n, h, w, o] = sum over i, j, c of
  //     x[n, h stride + i - padding, w stride + j - padding, c] weight[i, j, c, o]
  virtual void conv2d(const Conv2dSizes& sizes, const Tensor& x, const Tensor& weight,
                      Tensor& y) = 0;
  virtual void conv2d_backward_input(const Conv2dSizes& sizes, const Tensor& dy,
                                     const Tensor& weight, Tensor& dx) = 0;
  virtual void conv2d_backward_weight(const Conv2dSizes& sizes, const Tensor& x, const Tensor& dy,
                                      Tensor& dweight) = 0;

  // ---- pooling: see Pool2dSizes for shapes ----

  // position (uint8) = which of the window's elements, row by row, was first the maximum.
  virtual void max_pool2d(const Pool2dSizes& sizes, const Tensor& x, Tensor& y,
                          Tensor& position) = 0;
  virtual void max_pool2d_backward(const Pool2dSizes& sizes, const Tensor& position,
                                   const Tensor& dy, Tensor& dx) = 0;

  // ---- normalisation ----

  // For x [rows, channels], all else [channels]. training: state.mean is that of the rows, and
  // with their biased variance state.inverse_std = 1 / sqrt(variance + eps); then
  //   running.mean = (1 - momentum) running.mean + momentum mean, running.batches += 1,
  //   running.variance = (1 - momentum) running.variance + momentum variance rows / (rows - 1).
  // Else state.mean is the running one already, and state.inverse_std comes from the running one.
  virtual void batch_norm_statistics(const Tensor& x, bool training, double momentum, double eps,
                                     RunningStatistics& running, BatchNormState& state) = 0;

  // y = gamma (x - mean) inverse_std + beta for x [rows, channels], the rest [channels];
  // with_relu: y = max(that, 0).
  virtual void batch_norm(const Tensor& x, const BatchNormState& state, const Tensor& gamma,
                          const Tensor& beta, bool with_relu, Tensor& y) = 0;

  // With z = (x - mean) inverse_std, and dy counted as 0 where with_relu cut y off:
  //   dgamma = sum(dy z), dbeta = sum(dy)
  //   training: dx = gamma inverse_std (dy - dbeta / rows - z dgamma / rows)
  //   else:     dx = gamma inverse_std dy     (mean and inverse_std are constants)
  virtual void batch_norm_backward(const Tensor& x, const BatchNormState& state,
                                   const Tensor& gamma, const Tensor& beta, bool with_relu,
                                   bool training, const Tensor& dy, Tensor& dx, Tensor& dgamma,
                                   Tensor& dbeta) = 0;

  // For x [rows, columns], each row by itself: z = (x - mean) inverse_std, y = gamma z + beta;
  // mean and inverse_std are results of [rows].
  virtual void layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps,
                          Tensor& y, Tensor& mean, Tensor& inverse_std) = 0;

  // dgamma = sum over rows(dy z), dbeta = sum over rows(dy); with g = gamma dy:
  // dx = inverse_std (g - mean(g) - z mean(g z)), means over the columns.
  virtual void layer_norm_backward(const Tensor& x, const Tensor& mean, const Tensor& inverse_std,
                                   const Tensor& gamma, const Tensor& dy, Tensor& dx,
                                   Tensor& dgamma, Tensor& dbeta) = 0;

  // ---- fused: the same as the entries above one after the other, in fewer passes ----

  // y = max_pool2d(batch_norm(x) with_relu): see Pool2dSizes for the shapes. position as in
  // max_pool2d, but 255 where the whole window was cut off; winner, shaped like y, the x behind
  // each maximum. Both may be undefined where no gradient will be asked for.
  virtual void batch_norm_max_pool2d(const Pool2dSizes& sizes, const Tensor& x,
                                     const BatchNormState& state, const Tensor& gamma,
                                     const Tensor& beta, Tensor& y, Tensor& winner,
                                     Tensor& position) = 0;
  virtual void batch_norm_max_pool2d_backward(const Pool2dSizes& sizes, const Tensor& x,
                                              const BatchNormState& state, const Tensor& gamma,
                                              const Tensor& beta, bool training,
                                              const Tensor& winner, const Tensor& position,
                                              const Tensor& dy, Tensor& dx, Tensor& dgamma,
                                              Tensor& dbeta) = 0;

  // y = relu(CBAM(batch norm(x)) + residual), all [batch, height, width, channels]; see
  // cpu/fused_cbam.h for the formulas.
  virtual void batch_norm_cbam(const CbamSizes& sizes, const Tensor& x, const BatchNormState& norm,
                               const CbamParameters& parameters, const Tensor& residual, Tensor& y,
                               CbamState& state) = 0;

  // The gradients of x, the residual, and the parameters.
  virtual void batch_norm_cbam_backward(const CbamSizes& sizes, const Tensor& x,
                                        const BatchNormState& norm,
                                        const CbamParameters& parameters, bool training,
                                        const Tensor& y, const CbamState& state, const Tensor& dy,
                                        Tensor& dx, Tensor& dresidual,
                                        CbamParameters& dparameters) = 0;

  // ---- dropout ----

  // mask_i = uniform number (counter + i) of the stream `seed` < p ? 0 : 1 / (1 - p)
  virtual void dropout_mask(double p, std::uint64_t seed, std::uint64_t counter, Tensor& mask) = 0;

  // ---- optimisers: all parameters w[i] in one call; those with an undefined grad[i] stay ----
  // What changes from step to step lies on the device: lr is a float64 scalar.

  // g = grad + weight_decay w; velocity = momentum velocity + g; w -= lr velocity
  // (an undefined velocity: momentum is 0, w -= lr g)
  virtual void sgd_step(const SgdStep& options, const Tensor& lr, const std::vector<Tensor>& grad,
                        std::vector<Tensor>& velocity, std::vector<Tensor>& w) = 0;

  // t = ++steps[i], of int64; m = beta1 m + (1 - beta1) grad; v = beta2 v + (1 - beta2) grad^2;
  // w = (1 - lr weight_decay) w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
  virtual void adamw_step(const AdamWStep& options, const Tensor& lr,
                          const std::vector<Tensor>& grad, Tensor& steps, std::vector<Tensor>& m,
                          std::vector<Tensor>& v, std::vector<Tensor>& w) = 0;
};

// The backend for a device and element type. Throws Error for int64 and uint8, and for a device
// this build has no backend for.
Backend& backend(Device device, DType dtype);
Backend& backend_for(const Tensor& tensor);

}  // namespace chalk
