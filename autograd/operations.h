// Every differentiable operation. Each file autograd/<family>.cpp holds the forward and, right
// after it, the gradient with its derivation.
//
// All tensors of one call have the same type, float32 or float64, and lie on the same device,
// where nothing else is said; axes may be negative (-1 is the last). Wrong shapes throw Error.
#pragma once

#include "autograd/tensor.h"

namespace chalk {

// ---- elementwise.cpp: arithmetic with broadcasting ----
// Shapes are aligned at the last axis; an axis of size 1, or a missing one, repeats:
// [32, 1, 64] with [7, 64] gives [32, 7, 64].

Tensor add(const Tensor& a, const Tensor& b);
Tensor subtract(const Tensor& a, const Tensor& b);
Tensor multiply(const Tensor& a, const Tensor& b);
Tensor divide(const Tensor& a, const Tensor& b);

// clang-format off
inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return subtract(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return multiply(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return divide(a, b); }
// clang-format on

// A scalar takes the tensor's type and device.
Tensor operator+(const Tensor& a, double b);
Tensor operator-(const Tensor& a, double b);
Tensor operator*(const Tensor& a, double b);
Tensor operator/(const Tensor& a, double b);
Tensor operator+(double a, const Tensor& b);
Tensor operator-(double a, const Tensor& b);
Tensor operator*(double a, const Tensor& b);
Tensor operator/(double a, const Tensor& b);
Tensor operator-(const Tensor& x);

// ---- elementwise.cpp: functions of one variable ----

Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor relu(const Tensor& x);     // max(x, 0), gradient 0 at 0
Tensor sigmoid(const Tensor& x);  // 1 / (1 + exp(-x))
Tensor tanh(const Tensor& x);

// ---- reduce.cpp: over the given axes, or over all of them ({}) ----
// keepdim leaves the reduced axes in place with size 1.

Tensor sum(const Tensor& x, const std::vector<Index>& axes = {}, bool keepdim = false);
Tensor mean(const Tensor& x, const std::vector<Index>& axes = {}, bool keepdim = false);

// The gradient goes to the first maximum. The maximum of nothing is an error.
Tensor max(const Tensor& x, const std::vector<Index>& axes = {}, bool keepdim = false);

// int64: where along the axis the first maximum is. No gradient.
Tensor argmax(const Tensor& x, Index axis = -1, bool keepdim = false);

// ---- movement.cpp: the same elements, of any type, arranged otherwise ----

// One size may be -1: what is left. Shares the elements.
Tensor reshape(const Tensor& x, Shape shape);

// Axis a of the result is axis axes[a] of x: permute(x [N, H, W, C], {0, 3, 1, 2}) is [N, C, H, W].
Tensor permute(const Tensor& x, const std::vector<Index>& axes);
Tensor transpose(const Tensor& x, Index axis0 = -2, Index axis1 = -1);

// Joins tensors that differ in the size of one axis only.
Tensor concatenate(const std::vector<Tensor>& tensors, Index axis);

// x[..., begin:end, ...] along one axis, 0 <= begin <= end <= size.
Tensor slice(const Tensor& x, Index axis, Index begin, Index end);

// ---- matmul.cpp ----

// [..., m, k] x [..., k, n] -> [..., m, n]. The axes in front are a batch: equal in a and b, or
// missing in one of them, which then serves the whole batch.
Tensor matmul(const Tensor& a, const Tensor& b);

// softmax(q k^T / sqrt(d)) v for q [..., t, d], k [..., s, d], v [..., s, e] -> [..., t, e].
// "Attention Is All You Need" (arXiv 1706.03762), equation 1.
Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value);

// ---- softmax.cpp ----

Tensor softmax(const Tensor& x, Index axis = -1);
Tensor log_softmax(const Tensor& x, Index axis = -1);

// The mean over a batch of -log softmax(logits)[label]; logits [batch, classes], labels int64
// [batch] in 0 .. classes - 1. A scalar.
Tensor cross_entropy(const Tensor& logits, const Tensor& labels);

// ---- conv.cpp ----

struct Conv2dOptions {
  Index stride = 1, padding = 0, groups = 1;
};

// input [N, H, W, C], weight [kh, kw, C / groups, O], bias [O] or undefined -> [N, H', W', O]
// with H' = (H + 2 padding - kh) / stride + 1. Cross-correlation, as in every framework. Padding up
// to 2^20; the stride may be any.
Tensor conv2d(const Tensor& input, const Tensor& weight, const Tensor& bias = {},
              const Conv2dOptions& options = {});

// ---- pool.cpp: input [N, H, W, C] ----

// The maximum of each kernel x kernel window -> [N, H', W', C]. padding <= kernel / 2.
Tensor max_pool2d(const Tensor& input, Index kernel, Index stride, Index padding = 0);

// -> [N, 1, 1, C]
Tensor global_average_pool(const Tensor& input);
Tensor global_max_pool(const Tensor& input);

// ---- norm.cpp ----

// Batch norm over the last axis' channels (arXiv 1502.03167):
//   y = gamma (x - mean) / sqrt(variance + eps) + beta
// training: mean and variance are those of all rows of x, and the running ones move towards them:
// running = (1 - momentum) running + momentum batch's, with the unbiased variance.
// Else the running ones are used. All of [channels].
struct RunningStatistics;  // {mean, variance}, or {mean, variance, batches} to be counted as well
struct BatchNormOptions {
  bool training = true;
  bool relu = false;  // y = max(y, 0), in the same pass over the elements
  double momentum = 0.1, eps = 1e-5;
};
Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                  RunningStatistics running, const BatchNormOptions& options = {});

// Each row of the last axis is normalised by itself (arXiv 1607.06450); gamma, beta [last axis].
Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps = 1e-5);

// ---- fused.cpp ----

// max_pool2d(relu(batch_norm(x)), kernel, stride, padding) in few passes over memory, for x
// [N, H, W, C]; gamma, beta and the running statistics [C].
Tensor batch_norm_max_pool2d(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                             RunningStatistics running, Index kernel, Index stride, Index padding,
                             const BatchNormOptions& options = {});

// relu(CBAM(batch norm(x)) + residual) in few passes over memory; x, residual [N, H, W, C]. The
// parameters are gamma, beta [C], the channel attention's two 1x1 convolutions w1 [1, 1, C, R] and
// w2 [1, 1, R, C], and the spatial attention's convolution w7 [7, 7, 2, 1]. Equals, up to rounding,
//   u = batch_norm(x), v = u sigmoid(mlp(global_average_pool(u)) + mlp(global_max_pool(u))),
//   relu(v sigmoid(conv2d(concatenate(mean over C(v), max over C(v)), w7)) + residual).
struct CbamParameters;
Tensor batch_norm_cbam(const Tensor& x, const Tensor& residual, const CbamParameters& parameters,
                       RunningStatistics running, const BatchNormOptions& options = {});

// ---- dropout.cpp ----

// Sets each element to 0 with probability p and scales the others by 1 / (1 - p). Only for
// training: in evaluation leave it out.
Tensor dropout(const Tensor& x, double p, Generator& generator = default_generator());

}  // namespace chalk
