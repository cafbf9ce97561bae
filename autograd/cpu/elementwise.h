// Kernels that treat every element alike: functions of one variable, arithmetic with
// broadcasting, and the constants of a tensor. count is the number of elements.
#pragma once

#include <cmath>
#include <vector>

#include "autograd/backend.h"
#include "autograd/cpu/exponential.h"
#include "autograd/cpu/parallel.h"
#include "autograd/elements.h"

namespace chalk::cpu {

// How many elements a thread takes at a time: 64 KiB of float32, far more than a thread costs.
constexpr Index elements_at_once = 16384;

// Calls f(i) for every i < count, vectorised. f writes element i of its results and nothing else.
template <typename F>
void for_each_element(Index count, const F& f) {
  parallel_ranges(count, elements_at_once, [f](Index begin, Index end) {
#pragma omp simd
    for (Index i = begin; i < end; ++i)
      f(i);
  });
}

// 0 where the condition holds, else the value. As an argument the value is read in any case, so
// that a loop over this has no branch in it.
template <typename T>
T zero_if(bool condition, T value) {
  return condition ? T(0) : value;
}

// ---- one variable ----

// y_i = value
template <typename T>
void fill(Index count, T value, T* y) {
  for_each_element(count, [=](Index i) { y[i] = value; });
}

// y_i = f(x_i). relu is written so that NaN stays NaN.
template <typename T>
void unary(Unary f, Index count, const T* x, T* y) {
  switch (f) {
    case Unary::exp:
      return for_each_element(count, [=](Index i) { y[i] = exponential(x[i]); });
    case Unary::log:
      return for_each_element(count, [=](Index i) { y[i] = std::log(x[i]); });
    case Unary::sqrt:
      return for_each_element(count, [=](Index i) { y[i] = std::sqrt(x[i]); });
    case Unary::relu:
      return for_each_element(count, [=](Index i) { y[i] = x[i] <= 0 ? T(0) : x[i]; });
    case Unary::sigmoid:
      return for_each_element(count, [=](Index i) { y[i] = logistic(x[i]); });
    case Unary::tanh:
      return for_each_element(count, [=](Index i) { y[i] = hyperbolic_tangent(x[i]); });
  }
}

// dx_i = dy_i f'(x_i), in terms of y = f(x) wherever that is simpler:
//   exp' = y, log' = 1 / x, sqrt' = 1 / 2y, relu' = [y > 0], sigmoid' = y (1 - y), tanh' = 1 - y^2
template <typename T>
void unary_backward(Unary f, Index count, const T* x, const T* y, const T* dy, T* dx) {
  switch (f) {
    case Unary::exp:
      return for_each_element(count, [=](Index i) { dx[i] = dy[i] * y[i]; });
    case Unary::log:
      return for_each_element(count, [=](Index i) { dx[i] = dy[i] / x[i]; });
    case Unary::sqrt:
      return for_each_element(count, [=](Index i) { dx[i] = dy[i] / (2 * y[i]); });
    case Unary::relu:
      return for_each_element(count, [=](Index i) { dx[i] = zero_if(y[i] <= 0, dy[i]); });
    case Unary::sigmoid:
      return for_each_element(count, [=](Index i) { dx[i] = dy[i] * y[i] * (1 - y[i]); });
    case Unary::tanh:
      return for_each_element(count, [=](Index i) { dx[i] = dy[i] * (1 - y[i] * y[i]); });
  }
}

// y_i = alpha x_i + beta y_i; where beta is 0, y is not read.
template <typename T>
void scale_add(Index count, T alpha, const T* x, T beta, T* y) {
  if (beta == 0) return for_each_element(count, [=](Index i) { y[i] = alpha * x[i]; });
  for_each_element(count, [=](Index i) { y[i] = alpha * x[i] + beta * y[i]; });
}

// ---- two variables, broadcast ----

// Counts through the outer axes (all but the last), keeping the offsets of a and b.
class BroadcastRow {
 public:
  BroadcastRow(const std::vector<BroadcastAxis>& axes, Index row) : axes_(axes), at_(axes.size()) {
    for (std::size_t i = axes.size() - 1; i-- > 0; row /= axes[i].size) {
      at_[i] = row % axes[i].size;
      a += at_[i] * axes[i].a_step;
      b += at_[i] * axes[i].b_step;
    }
  }

  void next() {
    for (std::size_t i = axes_.size() - 1; i-- > 0;) {
      a += axes_[i].a_step;
      b += axes_[i].b_step;
      if (++at_[i] < axes_[i].size) return;
      a -= at_[i] * axes_[i].a_step;
      b -= at_[i] * axes_[i].b_step;
      at_[i] = 0;
    }
  }

  Index a = 0, b = 0;

 private:
  const std::vector<BroadcastAxis>& axes_;
  std::vector<Index> at_;
};

// y_i = f(a_i, b_i) for i < count; with a step of 0, a or b is the same for all i.
template <typename T, typename F>
void binary_row(Index count, const T* a, Index a_step, const T* b, Index b_step, T* y, const F& f) {
  if (a_step != 0 && b_step != 0) {
#pragma omp simd
    for (Index i = 0; i < count; ++i)
      y[i] = f(a[i], b[i]);
  } else if (a_step != 0) {
    const T repeated = *b;
#pragma omp simd
    for (Index i = 0; i < count; ++i)
      y[i] = f(a[i], repeated);
  } else {
    const T repeated = *a;
#pragma omp simd
    for (Index i = 0; i < count; ++i)
      y[i] = f(repeated, b[i * b_step]);
  }
}

// y = f(a, b), the shapes broadcast to y's: row by row of y's innermost (merged) axis. A single
// row, as equal shapes give, is cut into pieces instead.
template <typename T, typename F>
void binary_rows(const std::vector<BroadcastAxis>& axes, const T* a, const T* b, T* y, const F& f) {
  const BroadcastAxis inner = axes.back();
  if (axes.size() == 1) {
    return parallel_ranges(inner.size, elements_at_once, [&](Index begin, Index end) {
      binary_row(end - begin, a + begin * inner.a_step, inner.a_step, b + begin * inner.b_step,
                 inner.b_step, y + begin, f);
    });
  }
  Index rows = 1;
  for (std::size_t i = 0; i + 1 < axes.size(); ++i)
    rows *= axes[i].size;
  const Index rows_at_once = std::max<Index>(1, elements_at_once / std::max<Index>(1, inner.size));
  parallel_ranges(rows, rows_at_once, [&](Index begin, Index end) {
    BroadcastRow row(axes, begin);
    for (Index r = begin; r < end; ++r, row.next())
      binary_row(inner.size, a + row.a, inner.a_step, b + row.b, inner.b_step, y + r * inner.size,
                 f);
  });
}

template <typename T>
void binary(Binary f, const Shape& a_shape, const T* a, const Shape& b_shape, const T* b,
            const Shape& y_shape, T* y) {
  const std::vector<BroadcastAxis> axes = broadcast_axes(a_shape, b_shape, y_shape);
  switch (f) {
    case Binary::add:
      return binary_rows(axes, a, b, y, [](T p, T q) { return p + q; });
    case Binary::subtract:
      return binary_rows(axes, a, b, y, [](T p, T q) { return p - q; });
    case Binary::multiply:
      return binary_rows(axes, a, b, y, [](T p, T q) { return p * q; });
    case Binary::divide:
      return binary_rows(axes, a, b, y, [](T p, T q) { return p / q; });
  }
}

}  // namespace chalk::cpu
