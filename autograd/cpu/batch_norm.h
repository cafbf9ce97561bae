// Batch norm of x [rows, channels] over the rows; everything else is [channels].
#pragma once

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
void batch_norm_sums(Index rows, Index channels, const T* x, const T* mean, const T* scale,
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

// With z = (x - mean) inverse_std, s = gamma inverse_std, and dy counted as 0 where with_relu cut
// y off:  dgamma = sum(dy z), dbeta = sum(dy);  in training
//   dx = s (dy - dbeta / rows - z dgamma / rows) = s dy - (along (x - mean) + constant)
// with along = s inverse_std dgamma / rows and constant = s dbeta / rows; else dx = s dy.
template <typename T>
void batch_norm_backward(Index rows, Index channels, const T* x, const T* mean,
                         const T* inverse_std, const T* gamma, const T* beta, bool with_relu,
                         bool training, const T* dy, T* dx, T* dgamma, T* dbeta) {
  Scratch scratch;
  const T* scale = batch_norm_scale(channels, gamma, inverse_std, scratch);
  T* along = scratch.take<T>(channels);
  T* constant = scratch.take<T>(channels);
  double* totals = scratch.take<double>(2 * channels);
  sum_over_rows(rows, rows_at_once(channels), 2 * channels, totals,
                [=](Index begin, Index end, double* sums) {
                  batch_norm_sums(end - begin, channels, x + begin * channels, mean, scale, beta,
                                  with_relu, dy + begin * channels, sums);
                });
  for (Index c = 0; c < channels; ++c) {
    const double s = static_cast<double>(inverse_std[c]), n = static_cast<double>(rows);
    const double sum_gz = totals[channels + c] * s;
    dbeta[c] = static_cast<T>(totals[c]);
    dgamma[c] = static_cast<T>(sum_gz);
    constant[c] = training ? static_cast<T>(static_cast<double>(scale[c]) * totals[c] / n) : 0;
    along[c] = training ? static_cast<T>(static_cast<double>(scale[c]) * s * sum_gz / n) : 0;
  }
  parallel_ranges(rows, rows_at_once(channels), [=](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const T *from = x + r * channels, *gradient = dy + r * channels;
      T* to = dx + r * channels;
#pragma omp simd
      for (Index c = 0; c < channels; ++c) {
        const T value = normalised(from[c], mean[c], scale[c], beta[c]);
        const T g = zero_if(with_relu & (value <= 0), gradient[c]);
        to[c] = scale[c] * g - (along[c] * (from[c] - mean[c]) + constant[c]);
      }
    }
  });
}

}  // namespace chalk::cpu
