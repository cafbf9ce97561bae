// Kernels that arrange or convert elements, a thread for each: permuted axes, copied rows, casts.
#pragma once

#include "cuda/elementwise.cuh"

namespace chalk::cuda {

// y_i = x_i in another type, as converted() says.
template <typename From, typename To>
__global__ void cast_kernel(int count, const From* x, To* y) {
  const int i = thread_of_grid();
  if (i < count) y[i] = converted<From, To>(x[i]);
}

template <typename From, typename To>
void cast(Index count, const From* x, To* y) {
  launch_elements(cast_kernel<From, To>, count, x, y);
}

// to[r to_stride + i] = from[r from_stride + i] for r < rows, i < length; count = rows length
template <typename T>
__global__ void copy_rows_kernel(int count, int length, const T* from, int from_stride, T* to,
                                 int to_stride) {
  const int element = thread_of_grid();
  if (element >= count) return;
  const int row = element / length, i = element % length;
  to[row * to_stride + i] = from[row * from_stride + i];
}

template <typename T>
void copy_rows(Index rows, Index length, const T* from, Index from_stride, T* to, Index to_stride) {
  if (length == 0) return;  // there may be 2^40 rows of nothing
  to_int(rows * std::max(from_stride, to_stride));
  launch_elements(copy_rows_kernel<T>, rows * length, to_int(length), from, to_int(from_stride), to,
                  to_int(to_stride));
}

// y[i_axes[0], i_axes[1], ...] = x[i_0, i_1, ...]; thread i writes y_i, so writes are coalesced.
template <typename T>
__global__ void permute_kernel(int count, Axes axes, const T* x, T* y) {
  const int i = thread_of_grid();
  if (i >= count) return;
  int x_at, y_at;
  offsets(axes, i, x_at, y_at);
  y[y_at] = x[x_at];
}

// y[b, j, i] = x[b, i, j] by tiles that pass through shared memory: a warp reads 32 neighbours of x
// and writes 32 neighbours of y. The row of a tile is one element longer, so that a column of it
// lies in 32 different banks.
constexpr int transpose_tile = 32, transpose_rows = 8;

template <typename T>
__global__ void transpose_kernel(int rows, int columns, int row_tiles, const T* x, T* y) {
  __shared__ T tile[transpose_tile][transpose_tile + 1];
  const std::int64_t batch = blockIdx.x / row_tiles, matrix = batch * rows * columns;
  const int i0 = static_cast<int>(blockIdx.x % row_tiles) * transpose_tile;
  const int j0 = static_cast<int>(blockIdx.y) * transpose_tile;
  const int across = static_cast<int>(threadIdx.x);
  for (int down = static_cast<int>(threadIdx.y); down < transpose_tile; down += transpose_rows)
    if (i0 + down < rows && j0 + across < columns)
      tile[down][across] = x[matrix + (i0 + down) * columns + j0 + across];
  __syncthreads();
  for (int down = static_cast<int>(threadIdx.y); down < transpose_tile; down += transpose_rows)
    if (j0 + down < columns && i0 + across < rows)
      y[matrix + (j0 + down) * rows + i0 + across] = tile[across][down];
}

template <typename T>
void permute(const Shape& x_shape, const std::vector<Index>& axes, const T* x, T* y) {
  const Index count = element_count(x_shape);
  if (count == 0) return;
  const std::vector<PermutedAxis> all = permuted_axes(x_shape, axes);
  check_axes(all.size());
  to_int(count);
  // y [(batch,) columns, rows] = x [(batch,) rows, columns]
  const std::size_t n = all.size();
  if ((n == 2 || (n == 3 && all[0].x_stride == all[0].y_stride)) && all[n - 2].x_stride == 1) {
    const int rows = to_int(all[n - 1].size), columns = to_int(all[n - 2].size);
    const unsigned row_tiles = blocks_for(rows, transpose_tile);
    const unsigned column_tiles = blocks_for(columns, transpose_tile);
    const auto batch = static_cast<unsigned>(n == 3 ? all[0].size : 1);
    constexpr unsigned most = 65535;
    if (column_tiles <= most)
      return launch(transpose_kernel<T>, dim3(batch * row_tiles, column_tiles),
                    dim3(transpose_tile, transpose_rows), 0, rows, columns,
                    static_cast<int>(row_tiles), x, y);
  }
  Axes kernel_axes{static_cast<int>(n), {}, {}, {}};
  for (std::size_t i = 0; i < n; ++i) {
    kernel_axes.size[i] = to_int(all[i].size);
    kernel_axes.first_step[i] = to_int(all[i].x_stride);
    kernel_axes.second_step[i] = to_int(all[i].y_stride);
  }
  launch_elements(permute_kernel<T>, count, kernel_axes, x, y);
}

}  // namespace chalk::cuda
