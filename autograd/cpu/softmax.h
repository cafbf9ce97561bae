// Softmax, log softmax and cross entropy over the rows of x [rows, columns].
#pragma once

#include "autograd/check.h"
#include "autograd/cpu/reduce.h"

namespace chalk::cpu {

// Calls row(r) for every row, on several threads where there are enough elements.
template <typename Row>
void for_each_row(Index rows, Index columns, const Row& row) {
  parallel_ranges(rows, rows_at_once(columns), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r)
      row(r);
  });
}

// y_i = exp(x_i - largest) for one row; returns their sum.
template <typename T>
double exponentials(Index columns, const T* x, T largest, T* y) {
#pragma omp simd
  for (Index i = 0; i < columns; ++i)
    y[i] = exponential(x[i] - largest);
  return sum_of(columns, y);
}

// y_i = exp(x_i) / sum_j exp(x_j) = exp(x_i - max) / sum_j exp(x_j - max), which can't overflow.
template <typename T>
void softmax(Index rows, Index columns, const T* x, T* y) {
  if (columns == 0) return;
  for_each_row(rows, columns, [=](Index r) {
    const T* from = x + r * columns;
    T* to = y + r * columns;
    Index ignored;
    const T factor =
        static_cast<T>(1 / exponentials(columns, from, max_of(columns, from, ignored), to));
#pragma omp simd
    for (Index i = 0; i < columns; ++i)
      to[i] *= factor;
  });
}

// dx_i = y_i (dy_i - sum_j dy_j y_j)
template <typename T>
void softmax_backward(Index rows, Index columns, const T* y, const T* dy, T* dx) {
  for_each_row(rows, columns, [=](Index r) {
    const T *p = y + r * columns, *g = dy + r * columns;
    T* to = dx + r * columns;
    const double total = sum_of_terms<T>(columns, [=](Index i) { return g[i] * p[i]; });
    const T mean = static_cast<T>(total);
#pragma omp simd
    for (Index i = 0; i < columns; ++i)
      to[i] = p[i] * (g[i] - mean);
  });
}

// y_i = x_i - log sum_j exp(x_j) = (x_i - max) - log sum_j exp(x_j - max)
template <typename T>
void log_softmax(Index rows, Index columns, const T* x, T* y) {
  if (columns == 0) return;
  for_each_row(rows, columns, [=](Index r) {
    const T* from = x + r * columns;
    T* to = y + r * columns;
    Index ignored;
    const T largest = max_of(columns, from, ignored);
    const T log_sum = static_cast<T>(std::log(exponentials(columns, from, largest, to)));
#pragma omp simd
    for (Index i = 0; i < columns; ++i)
      to[i] = from[i] - largest - log_sum;
  });
}

// dx_i = dy_i - exp(y_i) sum_j dy_j
template <typename T>
void log_softmax_backward(Index rows, Index columns, const T* y, const T* dy, T* dx) {
  for_each_row(rows, columns, [=](Index r) {
    const T *from = y + r * columns, *g = dy + r * columns;
    T* to = dx + r * columns;
    const T total = static_cast<T>(sum_of(columns, g));
#pragma omp simd
    for (Index i = 0; i < columns; ++i)
      to[i] = g[i] - exponential(from[i]) * total;
  });
}

// The mean over the rows of -log_probability[r, label[r]].
template <typename T>
T nll(Index rows, Index columns, const T* log_probability, const std::int64_t* label) {
  double total = 0;
  for (Index r = 0; r < rows; ++r) {
    check(label[r] >= 0 && label[r] < columns, "cross_entropy: label ", label[r],
          " is not in 0 .. ", columns - 1);
    total -= static_cast<double>(log_probability[r * columns + label[r]]);
  }
  return static_cast<T>(total / static_cast<double>(rows));
}

// dx[r, i] = dloss (exp(log_probability[r, i]) - [i = label[r]]) / rows
template <typename T>
void cross_entropy_backward(Index rows, Index columns, const T* log_probability,
                            const std::int64_t* label, T dloss, T* dx) {
  const T factor = dloss / static_cast<T>(rows);
  for_each_row(rows, columns, [=](Index r) {
    const T* from = log_probability + r * columns;
    T* to = dx + r * columns;
#pragma omp simd
    for (Index i = 0; i < columns; ++i)
      to[i] = factor * exponential(from[i]);
    to[label[r]] = factor * (exponential(from[label[r]]) - 1);
  });
}

}  // namespace chalk::cpu
