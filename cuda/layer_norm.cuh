// Layer norm of x [rows, columns], each row by itself; gamma, beta [columns], mean, s [rows].
// A row is shared by a thread, a warp or a block, as in softmax.cuh; what gamma and beta collect
// over the rows are sums of columns (columns.cuh).
#pragma once

#include "cuda/reduce.cuh"

namespace chalk::cuda {

// y = gamma z + beta with z = (x - mean) s and s = 1 / sqrt(variance + eps). The variance is summed
// from x - mean in a second pass over the row, which is in the cache.
template <typename T, int threads>
__global__ void layer_norm_rows(int rows, int columns, const T* x, const T* gamma, const T* beta,
                                double eps, T* y, T* mean, T* inverse_std) {
  const int row = row_of_thread<threads>(), first = threadIdx.x % threads;
  if (row >= rows) return;  // with all threads of that row
  const T* from = x + row * columns;
  double sum = 0, squares = 0;
  for (int i = first; i < columns; i += threads)
    sum += static_cast<double>(from[i]);
  const T m = static_cast<T>(row_sum<threads>(sum) / columns);
  for (int i = first; i < columns; i += threads)
    squares += static_cast<double>((from[i] - m) * (from[i] - m));
  const T s = static_cast<T>(1 / std::sqrt(row_sum<threads>(squares) / columns + eps));
  for (int i = first; i < columns; i += threads)
    y[row * columns + i] = gamma[i] * ((from[i] - m) * s) + beta[i];
  if (first > 0) return;
  mean[row] = m;
  inverse_std[row] = s;
}

template <typename T>
void layer_norm(Index rows, Index columns, const T* x, const T* gamma, const T* beta, double eps,
                T* y, T* mean, T* inverse_std) {
  to_int(rows * columns);  // so that offsets fit
  const int height = to_int(rows), width = to_int(columns);
  launch_rows(height, width, layer_norm_rows<T, 1>, layer_norm_rows<T, 32>,
              layer_norm_rows<T, row_block>, height, width, x, gamma, beta, eps, y, mean,
              inverse_std);
}

// With g = gamma dy:  dx = s (g - mean(g) - z mean(g z)), means over the row.
template <typename T, int threads>
__global__ void layer_norm_backward_rows(int rows, int columns, const T* x, const T* mean,
                                         const T* inverse_std, const T* gamma, const T* dy, T* dx) {
  const int row = row_of_thread<threads>(), first = threadIdx.x % threads;
  if (row >= rows) return;  // with all threads of that row
  const T *from = x + row * columns, *gradient = dy + row * columns;
  const T m = mean[row], s = inverse_std[row];
  double sum_g = 0, sum_gz = 0;
  for (int i = first; i < columns; i += threads) {
    const T g = gamma[i] * gradient[i];
    sum_g += static_cast<double>(g);
    sum_gz += static_cast<double>(g * ((from[i] - m) * s));
  }
  const T mean_g = static_cast<T>(row_sum<threads>(sum_g) / columns);
  const T mean_gz = static_cast<T>(row_sum<threads>(sum_gz) / columns);
  for (int i = first; i < columns; i += threads)
    dx[row * columns + i] = s * (gamma[i] * gradient[i] - mean_g - (from[i] - m) * s * mean_gz);
}

// pieces [gridDim.y, 2, columns]: sum(dy z) and sum(dy) over the block's rows.
template <typename T, int n>
__global__ void layer_norm_pieces(int rows, int columns, const T* x, const T* mean,
                                  const T* inverse_std, const T* dy, double* pieces) {
  const ColumnPart part(rows, columns / n);
  double sum[2 * n] = {};
  for (int row = part.begin; row < part.end; row += part.step) {
    const int at = row * (columns / n) + part.column;
    const Pack<T, n> value = load<n>(x, at), gradient = load<n>(dy, at);
    const T m = mean[row], s = inverse_std[row];
    for (int j = 0; j < n; ++j) {
      sum[j] += static_cast<double>(gradient.at[j] * ((value.at[j] - m) * s));
      sum[n + j] += static_cast<double>(gradient.at[j]);
    }
  }
  store_piece<2, n>(part, columns, sum, pieces);
}

// dgamma, dbeta = the sums of pieces [count, 2, columns]
template <typename T>
__global__ void layer_norm_finish(int columns, int count, const double* pieces, T* dgamma,
                                  T* dbeta) {
  double sum[2];
  add_pieces(count, columns, pieces, sum);
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (threadIdx.y > 0 || column >= columns) return;
  dgamma[column] = static_cast<T>(sum[0]);
  dbeta[column] = static_cast<T>(sum[1]);
}

template <typename T>
void layer_norm_backward(Index rows, Index columns, const T* x, const T* mean, const T* inverse_std,
                         const T* gamma, const T* dy, T* dx, T* dgamma, T* dbeta) {
  to_int(rows * columns);  // so that offsets fit
  const int height = to_int(rows), width = to_int(columns), n = in_packs(width) ? 4 : 1;
  launch_rows(height, width, layer_norm_backward_rows<T, 1>, layer_norm_backward_rows<T, 32>,
              layer_norm_backward_rows<T, row_block>, height, width, x, mean, inverse_std, gamma,
              dy, dx);
  const ColumnCut cut = cut_columns(height, width / n);
  const int count = static_cast<int>(cut.pieces);
  Workspace workspace;
  double* pieces = workspace.take<double>(2 * count * columns);
  launch(n == 4 ? layer_norm_pieces<T, 4> : layer_norm_pieces<T, 1>, cut.grid(), cut.block,
         shared_for(2 * n), height, width, x, mean, inverse_std, dy, pieces);
  launch(layer_norm_finish<T>, finish_grid(width), finish_block(), shared_for(2), width, count,
         pieces, dgamma, dbeta);
}

}  // namespace chalk::cuda
