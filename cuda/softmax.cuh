// Softmax, log softmax and cross entropy over the rows of x [rows, columns].
//
// A row's result needs two numbers that depend on the whole row, its largest element and a sum; so
// threads that share a row go along it, join what they found, and go along it again. Read the
// kernels with threads = 1 first: one thread, plain loops. With 32 or 256 nothing changes but where
// a thread begins, how far it steps, and row_max() and row_sum(), which join what each has found
// (reduce.cuh). What the rungs gain lies in the memory: see there.
#pragma once

#include "cuda/reduce.cuh"

namespace chalk::cuda {

// The largest of the values that the threads of a row have. A NaN may get lost: the sum of the
// exponentials finds it again.
template <int threads, typename T>
__device__ T row_max(T value) {
  return over_row<threads>(value, [](T a, T b) { return a > b ? a : b; });
}

// The largest element of the row x [columns], and sum_i exp(x_i - largest), which can't overflow.
template <int threads, typename T>
__device__ void exponentials(int columns, const T* x, T& largest, double& sum) {
  const int first = threadIdx.x % threads;
  largest = -std::numeric_limits<T>::infinity();
  for (int i = first; i < columns; i += threads)
    largest = x[i] > largest ? x[i] : largest;
  largest = row_max<threads>(largest);
  sum = 0;
  for (int i = first; i < columns; i += threads)
    sum += static_cast<double>(std::exp(x[i] - largest));
  sum = row_sum<threads>(sum);
}

// y_i = exp(x_i) / sum_j exp(x_j) = exp(x_i - max) / sum_j exp(x_j - max)
template <typename T, int threads>
__global__ void softmax_rows(int rows, int columns, const T* x, T* y) {
  const int row = row_of_thread<threads>();
  if (row >= rows) return;  // with all threads of that row
  const T* from = x + row * columns;
  T largest;
  double sum;
  exponentials<threads>(columns, from, largest, sum);
  const T factor = static_cast<T>(1 / sum);
  for (int i = threadIdx.x % threads; i < columns; i += threads)
    y[row * columns + i] = std::exp(from[i] - largest) * factor;
}

// y_i = x_i - log sum_j exp(x_j) = (x_i - max) - log sum_j exp(x_j - max)
template <typename T, int threads>
__global__ void log_softmax_rows(int rows, int columns, const T* x, T* y) {
  const int row = row_of_thread<threads>();
  if (row >= rows) return;  // with all threads of that row
  const T* from = x + row * columns;
  T largest;
  double sum;
  exponentials<threads>(columns, from, largest, sum);
  const T log_sum = static_cast<T>(std::log(sum));
  for (int i = threadIdx.x % threads; i < columns; i += threads)
    y[row * columns + i] = from[i] - largest - log_sum;
}

// dx_i = y_i (dy_i - sum_j dy_j y_j)
template <typename T, int threads>
__global__ void softmax_backward_rows(int rows, int columns, const T* y, const T* dy, T* dx) {
  const int row = row_of_thread<threads>(), first = threadIdx.x % threads;
  if (row >= rows) return;  // with all threads of that row
  const T *p = y + row * columns, *g = dy + row * columns;
  double sum = 0;
  for (int i = first; i < columns; i += threads)
    sum += static_cast<double>(g[i] * p[i]);
  const T mean = static_cast<T>(row_sum<threads>(sum));
  for (int i = first; i < columns; i += threads)
    dx[row * columns + i] = p[i] * (g[i] - mean);
}

// dx_i = dy_i - exp(y_i) sum_j dy_j
template <typename T, int threads>
__global__ void log_softmax_backward_rows(int rows, int columns, const T* y, const T* dy, T* dx) {
  const int row = row_of_thread<threads>(), first = threadIdx.x % threads;
  if (row >= rows) return;  // with all threads of that row
  const T *from = y + row * columns, *g = dy + row * columns;
  double sum = 0;
  for (int i = first; i < columns; i += threads)
    sum += static_cast<double>(g[i]);
  const T total = static_cast<T>(row_sum<threads>(sum));
  for (int i = first; i < columns; i += threads)
    dx[row * columns + i] = g[i] - std::exp(from[i]) * total;
}

// Launches the instance of a kernel for 1, 32 or 256 threads a row on matrices [rows, columns].
template <typename... Matrices, typename... Arguments>
void launch_on_rows(Index rows, Index columns, void (*thread)(int, int, Matrices...),
                    void (*warp)(int, int, Matrices...), void (*block)(int, int, Matrices...),
                    const Arguments&... matrices) {
  to_int(rows * columns);  // so that offsets fit
  const int height = to_int(rows), width = to_int(columns);
  launch_rows(height, width, thread, warp, block, height, width, matrices...);
}

template <typename T>
void softmax(Index rows, Index columns, const T* x, T* y) {
  launch_on_rows(rows, columns, softmax_rows<T, 1>, softmax_rows<T, 32>, softmax_rows<T, row_block>,
                 x, y);
}

template <typename T>
void log_softmax(Index rows, Index columns, const T* x, T* y) {
  launch_on_rows(rows, columns, log_softmax_rows<T, 1>, log_softmax_rows<T, 32>,
                 log_softmax_rows<T, row_block>, x, y);
}

template <typename T>
void softmax_backward(Index rows, Index columns, const T* y, const T* dy, T* dx) {
  launch_on_rows(rows, columns, softmax_backward_rows<T, 1>, softmax_backward_rows<T, 32>,
                 softmax_backward_rows<T, row_block>, y, dy, dx);
}

template <typename T>
void log_softmax_backward(Index rows, Index columns, const T* y, const T* dy, T* dx) {
  launch_on_rows(rows, columns, log_softmax_backward_rows<T, 1>, log_softmax_backward_rows<T, 32>,
                 log_softmax_backward_rows<T, row_block>, y, dy, dx);
}

// ---- cross entropy: a label that is no class makes NaN, since nobody waits to report it ----

template <typename T>
constexpr T not_a_number = std::numeric_limits<T>::quiet_NaN();

// loss = the mean over the rows of -log_probability[r, label[r]]; one block
template <typename T>
__global__ void nll_kernel(int rows, int columns, const T* log_probability,
                           const std::int64_t* label, T* loss) {
  double sum = 0;
  for (int r = threadIdx.x; r < rows; r += row_block) {
    const bool is_class = label[r] >= 0 && label[r] < columns;
    sum -=
        static_cast<double>(is_class ? log_probability[r * columns + label[r]] : not_a_number<T>);
  }
  sum = row_sum<row_block>(sum);
  if (threadIdx.x == 0) *loss = static_cast<T>(sum / rows);
}

template <typename T>
void nll(Index rows, Index columns, const T* log_probability, const std::int64_t* label, T* loss) {
  to_int(rows * columns);  // so that offsets fit
  launch(nll_kernel<T>, 1, row_block, 0, to_int(rows), to_int(columns), log_probability, label,
         loss);
}

// dx[r, i] = dloss (exp(log_probability[r, i]) - [i = label[r]]) / rows; a thread an element
template <typename T>
__global__ void cross_entropy_backward_kernel(int rows, int columns, const T* log_probability,
                                              const std::int64_t* label, const T* dloss, T* dx) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= rows * columns) return;
  const std::int64_t target = label[at / columns];
  const bool is_class = target >= 0 && target < columns;
  const T hot = is_class ? T(at % columns == target) : not_a_number<T>;
  dx[at] = *dloss / static_cast<T>(rows) * (std::exp(log_probability[at]) - hot);
}

template <typename T>
void cross_entropy_backward(Index rows, Index columns, const T* log_probability,
                            const std::int64_t* label, const T* dloss, T* dx) {
  launch(cross_entropy_backward_kernel<T>, blocks_for(to_int(rows * columns), 256), 256, 0,
         to_int(rows), to_int(columns), log_probability, label, dloss, dx);
}

}  // namespace chalk::cuda
