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
    double variance = 0;
#pragma omp simd reduction(+ : variance)
    for (Index i = 0; i < columns; ++i) {
      const double difference = static_cast<double>(from[i]) - m;
      variance += difference * difference;
    }
    const double s = 1 / std::sqrt(variance / static_cast<double>(columns) + eps);
    mean[r] = static_cast<T>(m);
    inverse_std[r] = static_cast<T>(s);
    const T row_mean = mean[r], row_s = inverse_std[r];
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
    double sum_g = 0, sum_gz = 0;
#pragma omp simd reduction(+ : sum_g, sum_gz)
    for (Index i = 0; i < columns; ++i) {
      const T g = gamma[i] * gradient[i];
      sum_g += static_cast<double>(g);
      sum_gz += static_cast<double>(g * ((from[i] - m) * s));
    }
    const T mean_g = static_cast<T>(sum_g / static_cast<double>(columns));
    const T mean_gz = static_cast<T>(sum_gz / static_cast<double>(columns));
#pragma omp simd
    for (Index i = 0; i < columns; ++i)
      to[i] = s * (gamma[i] * gradient[i] - mean_g - (from[i] - m) * s * mean_gz);
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
                [&](Index begin, Index end, double* partial) {
                  for (Index r = begin; r < end; ++r) {
                    const T *from = x + r * columns, *gradient = dy + r * columns;
                    const T m = mean[r], s = inverse_std[r];
#pragma omp simd
                    for (Index i = 0; i < columns; ++i) {
                      partial[i] += static_cast<double>(gradient[i] * ((from[i] - m) * s));
                      partial[columns + i] += static_cast<double>(gradient[i]);
                    }
                  }
                });
  for (Index i = 0; i < columns; ++i) {
    dgamma[i] = static_cast<T>(totals[i]);
    dbeta[i] = static_cast<T>(totals[columns + i]);
  }
}

}  // namespace chalk::cpu
