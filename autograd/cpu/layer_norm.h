// Layer norm of x [rows, columns], each row by itself; gamma, beta [columns].
#pragma once

#include "autograd/cpu/softmax.h"

namespace chalk::cpu {

// y = gamma z + beta with z = (x - mean) s and s = 1 / sqrt(variance + eps); mean, s [rows].
// The variance is summed from x - mean in a second pass over the row, which is in the cache.
template <typename T>
void layer_norm(Index rows, Index columns, const T* x, const T* gamma, const T* beta, double eps,
                T* y, T* mean, T* inverse_std) {
  for_each_row(rows, columns, [=](Index r) {
    const T* from = x + r * columns;
    T* to = y + r * columns;
    const double m = sum_of(columns, from) / static_cast<double>(columns);
    const T row_mean = static_cast<T>(m);
    const double variance = sum_of_terms<T>(
        columns, [=](Index i) { return (from[i] - row_mean) * (from[i] - row_mean); });
    const double s = 1 / std::sqrt(variance / static_cast<double>(columns) + eps);
    const T row_s = static_cast<T>(s);
    mean[r] = row_mean;
    inverse_std[r] = row_s;
#pragma omp simd
    for (Index i = 0; i < columns; ++i)
      to[i] = gamma[i] * ((from[i] - row_mean) * row_s) + beta[i];
  });
}

// With g = gamma dy:  dx = s (g - mean(g) - z mean(g z)), means over the row.
template <typename T>
void layer_norm_backward_input(Index rows, Index columns, const T* x, const T* mean,
                               const T* inverse_std, const T* gamma, const T* dy, T* dx) {
  for_each_row(rows, columns, [=](Index r) {
    const T *from = x + r * columns, *gradient = dy + r * columns;
    T* to = dx + r * columns;
    const T m = mean[r], s = inverse_std[r];
    const double sum_g = sum_of_terms<T>(columns, [=](Index i) { return gamma[i] * gradient[i]; });
    const double sum_gz = sum_of_terms<T>(
        columns, [=](Index i) { return gamma[i] * gradient[i] * ((from[i] - m) * s); });
    const T mean_g = static_cast<T>(sum_g / static_cast<double>(columns));
    const T mean_gz = static_cast<T>(sum_gz / static_cast<double>(columns));
#pragma omp simd
    for (Index i = 0; i < columns; ++i)
      to[i] = s * (gamma[i] * gradient[i] - mean_g - (from[i] - m) * s * mean_gz);
  });
}

// sums[i] = sum over r of dy[r, i] z[r, i], sums[columns + i] = sum over r of dy[r, i]
template <typename T>
void layer_norm_sums(Index rows, Index columns, const T* x, const T* mean, const T* inverse_std,
                     const T* dy, double* sums) {
  for_each_tile(columns, [=](Index first, auto width) {
    double with_z[tile_width] = {}, plain[tile_width] = {};
    const T *from = x + first, *gradient = dy + first;
    for (Index r = 0; r < rows; ++r, from += columns, gradient += columns) {
      const T m = mean[r], s = inverse_std[r];
#pragma omp simd
      for (Index i = 0; i < width; ++i) {
        with_z[i] += static_cast<double>(gradient[i] * ((from[i] - m) * s));
        plain[i] += static_cast<double>(gradient[i]);
      }
    }
    std::copy(with_z, with_z + width, sums + first);
    std::copy(plain, plain + width, sums + columns + first);
  });
}

// dgamma = sum over rows(dy z), dbeta = sum over rows(dy)
template <typename T>
void layer_norm_backward(Index rows, Index columns, const T* x, const T* mean, const T* inverse_std,
                         const T* gamma, const T* dy, T* dx, T* dgamma, T* dbeta) {
  layer_norm_backward_input(rows, columns, x, mean, inverse_std, gamma, dy, dx);
  Scratch scratch;
  double* totals = scratch.take<double>(2 * columns);
  sum_over_rows(rows, rows_at_once(columns), 2 * columns, totals,
                [=](Index begin, Index end, double* sums) {
                  layer_norm_sums(end - begin, columns, x + begin * columns, mean + begin,
                                  inverse_std + begin, dy + begin * columns, sums);
                });
  for (Index i = 0; i < columns; ++i) {
    dgamma[i] = static_cast<T>(totals[i]);
    dbeta[i] = static_cast<T>(totals[columns + i]);
  }
}

}  // namespace chalk::cpu
