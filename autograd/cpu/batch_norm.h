// Batch norm of x [rows, channels] over the rows; everything else is [channels].
#pragma once

#include "autograd/cpu/elementwise.h"
#include "autograd/cpu/reduce.h"

namespace chalk::cpu {

// mean = sum(x) / rows, variance = sum((x - mean)^2) / rows, in one pass over x: with the first
// row k as a guess of the mean and d = x - k,
//   mean = k + mean(d),  variance = mean(d^2) - mean(d)^2.
// In double, and with k near the mean, nothing is lost in that difference.
template <typename T>
void mean_variance(Index rows, Index channels, const T* x, T* mean, T* variance) {
  Scratch scratch;
  double* totals = scratch.take<double>(2 * channels);
  sum_over_rows(rows, rows_at_once(channels), 2 * channels, totals,
                [=](Index begin, Index end, double* partial) {
                  for_each_tile(channels, [=](Index first, auto width) {
                    double sum[tile_width] = {}, square[tile_width] = {}, guess[tile_width] = {};
                    for (Index c = 0; c < width; ++c)
                      guess[c] = static_cast<double>(x[first + c]);
                    const T* row = x + begin * channels + first;
                    for (Index r = begin; r < end; ++r, row += channels) {
#pragma omp simd
                      for (Index c = 0; c < width; ++c) {
                        const double d = static_cast<double>(row[c]) - guess[c];
                        sum[c] += d;
                        square[c] += d * d;
                      }
                    }
                    std::copy(sum, sum + width, partial + first);
                    std::copy(square, square + width, partial + channels + first);
                  });
                });
  for (Index c = 0; c < channels; ++c) {
    const double d = totals[c] / static_cast<double>(rows);
    const double square = totals[channels + c] / static_cast<double>(rows);
    mean[c] = static_cast<T>(d + (rows > 0 ? static_cast<double>(x[c]) : 0));
    variance[c] = static_cast<T>(square - d * d < 0 ? 0 : square - d * d);  // NaN stays NaN
  }
}

// inverse_std = 1 / sqrt(variance + eps)
template <typename T>
void batch_norm_inverse_std(Index channels, const T* variance, T eps, T* inverse_std) {
  for (Index c = 0; c < channels; ++c)
    inverse_std[c] = 1 / std::sqrt(variance[c] + eps);
}

// mean and inverse_std of x; moves the running mean and variance towards them, the latter towards
// the unbiased variance.
template <typename T>
void batch_norm_statistics(Index rows, Index channels, const T* x, double momentum, double eps,
                           T* running_mean, T* running_variance, T* mean, T* inverse_std) {
  Scratch scratch;
  T* variance = scratch.take<T>(channels);
  mean_variance(rows, channels, x, mean, variance);
  const double unbiased = static_cast<double>(rows) / static_cast<double>(rows - 1);
  const T kept = static_cast<T>(1 - momentum);
  scale_add(channels, static_cast<T>(momentum), mean, kept, running_mean);
  scale_add(channels, static_cast<T>(momentum * unbiased), variance, kept, running_variance);
  batch_norm_inverse_std(channels, variance, static_cast<T>(eps), inverse_std);
}

// What batch norm does to an element of one channel: y = (x - mean) scale + beta with
// scale = gamma / sqrt(variance + eps).
template <typename T>
T normalised(T x, T mean, T scale, T beta) {
  return (x - mean) * scale + beta;
}

// scale = gamma inverse_std
template <typename T>
T* batch_norm_scale(Index channels, const T* gamma, const T* inverse_std, Scratch& scratch) {
  T* scale = scratch.take<T>(channels);
  for (Index c = 0; c < channels; ++c)
    scale[c] = gamma[c] * inverse_std[c];
  return scale;
}

// y = gamma (x - mean) inverse_std + beta; with_relu: max(that, 0).
template <typename T>
void batch_norm(Index rows, Index channels, const T* x, const T* mean, const T* inverse_std,
                const T* gamma, const T* beta, bool with_relu, T* y) {
  Scratch scratch;
  const T* scale = batch_norm_scale(channels, gamma, inverse_std, scratch);
  parallel_ranges(rows, rows_at_once(channels), [=](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const T* from = x + r * channels;
      T* to = y + r * channels;
      if (with_relu) {
#pragma omp simd
        for (Index c = 0; c < channels; ++c) {
          const T value = normalised(from[c], mean[c], scale[c], beta[c]);
          to[c] = zero_if(value <= 0, value);
        }
      } else {
#pragma omp simd
        for (Index c = 0; c < channels; ++c)
          to[c] = normalised(from[c], mean[c], scale[c], beta[c]);
      }
    }
  });
}

// sums[c] = sum(g), sums[channels + c] = sum(g (x - mean)) over `rows` rows, where g is dy, or 0
// where with_relu cut y off.
template <typename T>
void batch_norm_sums_of_piece(Index rows, Index channels, const T* x, const T* mean, const T* scale,
                              const T* beta, bool with_relu, const T* dy, double* sums) {
  for_each_tile(channels, [=](Index first, auto width) {
    double sum[tile_width] = {}, along[tile_width] = {};
    T m[tile_width], s[tile_width], b[tile_width];
    std::copy(mean + first, mean + first + width, m);
    std::copy(scale + first, scale + first + width, s);
    std::copy(beta + first, beta + first + width, b);
    const T *from = x + first, *gradient = dy + first;
    for (Index r = 0; r < rows; ++r, from += channels, gradient += channels) {
      T g[tile_width];
#pragma omp simd
      for (Index c = 0; c < width; ++c)
        g[c] = zero_if(with_relu & (normalised(from[c], m[c], s[c], b[c]) <= 0), gradient[c]);
#pragma omp simd
      for (Index c = 0; c < width; ++c) {
        sum[c] += static_cast<double>(g[c]);
        along[c] += static_cast<double>(g[c]) * static_cast<double>(from[c] - m[c]);
      }
    }
    std::copy(sum, sum + width, sums + first);
    std::copy(along, along + width, sums + channels + first);
  });
}

// The same over all rows, on several threads.
template <typename T>
void batch_norm_sums(Index rows, Index channels, const T* x, const T* mean, const T* scale,
                     const T* beta, bool with_relu, const T* dy, double* sums) {
  sum_over_rows(rows, rows_at_once(channels), 2 * channels, sums,
                [=](Index begin, Index end, double* partial) {
                  const Index at = begin * channels;
                  batch_norm_sums_of_piece(end - begin, channels, x + at, mean, scale, beta,
                                           with_relu, dy + at, partial);
                });
}

// Batch norm's backward pass, once its sums over all rows are known. With g = dy, or 0 where it was
// cut off, and s = gamma inverse_std:
//   dbeta = sum(g), dgamma = sum(g (x - mean)) inverse_std
//   training:  dx = s (g - dbeta / rows - (x - mean) inverse_std dgamma / rows)
//                 = s g - (along (x - mean) + constant)
//   else:      dx = s g, so along and constant are 0
template <typename T>
struct BatchNormGradient {
  const T *mean, *scale;  // [channels]
  T *along, *constant;

  // sums: those of batch_norm_sums; writes dgamma and dbeta too.
  BatchNormGradient(Index rows, Index channels, const double* sums, const T* mean_of_x,
                    const T* scale_of_x, const T* inverse_std, bool training, T* dgamma, T* dbeta,
                    Scratch& scratch)
      : mean(mean_of_x),
        scale(scale_of_x),
        along(scratch.take<T>(channels)),
        constant(scratch.take<T>(channels)) {
    for (Index c = 0; c < channels; ++c) {
      const double inverse = static_cast<double>(inverse_std[c]);
      const double each = training ? static_cast<double>(scale[c]) / static_cast<double>(rows) : 0;
      dbeta[c] = static_cast<T>(sums[c]);
      dgamma[c] = static_cast<T>(sums[channels + c] * inverse);
      constant[c] = static_cast<T>(each * sums[c]);
      along[c] = static_cast<T>(each * sums[channels + c] * inverse * inverse);
    }
  }

  T operator()(Index c, T x, T g) const {
    return scale[c] * g - (along[c] * (x - mean[c]) + constant[c]);
  }
};

// dx, dgamma and dbeta from dy, which counts as 0 where with_relu cut y off.
template <typename T>
void batch_norm_backward(Index rows, Index channels, const T* x, const T* mean,
                         const T* inverse_std, const T* gamma, const T* beta, bool with_relu,
                         bool training, const T* dy, T* dx, T* dgamma, T* dbeta) {
  Scratch scratch;
  const T* scale = batch_norm_scale(channels, gamma, inverse_std, scratch);
  double* sums = scratch.take<double>(2 * channels);
  batch_norm_sums(rows, channels, x, mean, scale, beta, with_relu, dy, sums);
  const BatchNormGradient<T> gradient(rows, channels, sums, mean, scale, inverse_std, training,
                                      dgamma, dbeta, scratch);
  parallel_ranges(rows, rows_at_once(channels), [=](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const T *from = x + r * channels, *dy_row = dy + r * channels;
      T* to = dx + r * channels;
#pragma omp simd
      for (Index c = 0; c < channels; ++c) {
        const T value = normalised(from[c], mean[c], scale[c], beta[c]);
        to[c] = gradient(c, from[c], zero_if(with_relu & (value <= 0), dy_row[c]));
      }
    }
  });
}

}  // namespace chalk::cpu
