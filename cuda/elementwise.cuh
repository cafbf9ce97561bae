// Kernels that treat every element alike, a thread for each: functions of one variable, arithmetic
// with broadcasting, and the constants of a tensor.
#pragma once

#include "autograd/backend.h"
#include "autograd/check.h"
#include "autograd/elements.h"
#include "cuda/gpu.h"

namespace chalk::cuda {

constexpr int elementwise_threads = 256;

// The number of this thread among all of the grid, where blocks and grid have one dimension.
__device__ __forceinline__ int thread_of_grid() {
  return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}

// Launches kernel(count, arguments...) with a thread for each of `count` elements.
template <typename... Parameters, typename... Arguments>
void launch_elements(void (*kernel)(int, Parameters...), Index count,
                     const Arguments&... arguments) {
  const int n = to_int(count);
  launch(kernel, blocks_for(n, elementwise_threads), elementwise_threads, 0, n, arguments...);
}

// ---- constants ----

// y_i = value
template <typename T>
__global__ void fill_kernel(int count, T value, T* y) {
  const int i = thread_of_grid();
  if (i < count) y[i] = value;
}

template <typename T>
void fill(Index count, T value, T* y) {
  launch_elements(fill_kernel<T>, count, value, y);
}

// ---- one variable ----

// f(x); relu is written so that NaN stays NaN.
template <typename T>
__device__ __forceinline__ T apply(Unary f, T x) {
  switch (f) {
    case Unary::exp:
      return exp(x);
    case Unary::log:
      return log(x);
    case Unary::sqrt:
      return sqrt(x);
    case Unary::relu:
      return x <= 0 ? T(0) : x;
    case Unary::sigmoid:
      return 1 / (1 + exp(-x));
    case Unary::tanh:
      return tanh(x);
  }
  return x;
}

// y_i = f(x_i)
template <typename T>
__global__ void unary_kernel(int count, Unary f, const T* x, T* y) {
  const int i = thread_of_grid();
  if (i < count) y[i] = apply(f, x[i]);
}

template <typename T>
void unary(Unary f, Index count, const T* x, T* y) {
  launch_elements(unary_kernel<T>, count, f, x, y);
}

// f'(x) in terms of y = f(x) wherever that is simpler.
template <typename T>
__device__ __forceinline__ T times_derivative(Unary f, T x, T y, T dy) {
  switch (f) {
    case Unary::exp:
      return dy * y;
    case Unary::log:
      return dy / x;
    case Unary::sqrt:
      return dy / (2 * y);
    case Unary::relu:
      return y <= 0 ? T(0) : dy;
    case Unary::sigmoid:
      return dy * y * (1 - y);
    case Unary::tanh:
      return dy * (1 - y * y);
  }
  return dy;
}

// dx_i = dy_i f'(x_i)
template <typename T>
__global__ void unary_backward_kernel(int count, Unary f, const T* x, const T* y, const T* dy,
                                      T* dx) {
  const int i = thread_of_grid();
  if (i < count) dx[i] = times_derivative(f, x[i], y[i], dy[i]);
}

template <typename T>
void unary_backward(Unary f, Index count, const T* x, const T* y, const T* dy, T* dx) {
  launch_elements(unary_backward_kernel<T>, count, f, x, y, dy, dx);
}

// y_i = alpha x_i + beta y_i; where beta is 0, y is not read.
template <typename T>
__global__ void scale_add_kernel(int count, T alpha, const T* x, T beta, T* y) {
  const int i = thread_of_grid();
  if (i < count) y[i] = beta == 0 ? alpha * x[i] : alpha * x[i] + beta * y[i];
}

template <typename T>
void scale_add(Index count, T alpha, const T* x, T beta, T* y) {
  launch_elements(scale_add_kernel<T>, count, alpha, x, beta, y);
}

// ---- two variables, broadcast ----

// A few axes, as a kernel's argument: outermost first, with how far each moves in two arrays.
struct Axes {
  static constexpr int most = 8;
  int count;
  int size[most], first_step[most], second_step[most];
};

// How far into both arrays the element with this number lies, counted row by row.
__device__ __forceinline__ void offsets(const Axes& axes, int element, int& first, int& second) {
  first = second = 0;
  for (int axis = axes.count - 1; axis >= 0; --axis) {
    const int rest = element / axes.size[axis], at = element - rest * axes.size[axis];
    first += at * axes.first_step[axis];
    second += at * axes.second_step[axis];
    element = rest;
  }
}

template <typename T>
__device__ __forceinline__ T apply(Binary f, T a, T b) {
  switch (f) {
    case Binary::add:
      return a + b;
    case Binary::subtract:
      return a - b;
    case Binary::multiply:
      return a * b;
    case Binary::divide:
      return a / b;
  }
  return a;
}

// y_i = a_i f b_i, or with a step of 0 the same a or b for all: equal shapes and scalars, whose
// elements are found without a division. A thread makes four of them, all under way at once.
constexpr int elements_of_thread = 4;

template <typename T>
__global__ void binary_row_kernel(int count, Binary f, const T* a, int a_step, const T* b,
                                  int b_step, T* y) {
  const int first = static_cast<int>(blockIdx.x * blockDim.x) * elements_of_thread +
                    static_cast<int>(threadIdx.x);
#pragma unroll
  for (int k = 0; k < elements_of_thread; ++k) {
    const int i = first + k * static_cast<int>(blockDim.x);
    if (i < count) y[i] = apply(f, a[i * a_step], b[i * b_step]);
  }
}

// y_i = a_i f b_i, where a and b are as the axes say.
template <typename T>
__global__ void binary_kernel(int count, Binary f, Axes axes, const T* a, const T* b, T* y) {
  const int i = thread_of_grid();
  if (i >= count) return;
  int a_at, b_at;
  offsets(axes, i, a_at, b_at);
  y[i] = apply(f, a[a_at], b[b_at]);
}

inline void check_axes(std::size_t count) {
  check(count <= Axes::most, "on cuda an operation takes at most ", Axes::most,
        " axes that can't be seen as one, here are ", count, "; reshape the tensors");
}

template <typename T>
void binary(Binary f, const Shape& a_shape, const T* a, const Shape& b_shape, const T* b,
            const Shape& y_shape, T* y) {
  const std::vector<BroadcastAxis> all = broadcast_axes(a_shape, b_shape, y_shape);
  if (all.size() == 1) {
    const int count = to_int(element_count(y_shape));
    return launch(binary_row_kernel<T>, blocks_for(count, elementwise_threads * elements_of_thread),
                  elementwise_threads, 0, count, f, a, to_int(all[0].a_step), b,
                  to_int(all[0].b_step), y);
  }
  check_axes(all.size());
  Axes axes{static_cast<int>(all.size()), {}, {}, {}};
  for (std::size_t i = 0; i < all.size(); ++i) {
    axes.size[i] = to_int(all[i].size);
    axes.first_step[i] = to_int(all[i].a_step);
    axes.second_step[i] = to_int(all[i].b_step);
  }
  launch_elements(binary_kernel<T>, element_count(y_shape), f, axes, a, b, y);
}

}  // namespace chalk::cuda
