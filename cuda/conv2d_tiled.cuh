// Convolution, third rung: the matrix product of im2col without its matrix. A block computes a tile
// of 64 x 64 of the result and brings what it multiplies to shared memory in slices of depth 16,
// each number fetched by its own place in the image: so x is read from memory about as often as
// without patches, and every number in shared memory serves 64 products. A thread has 4 x 4 of the
// tile in its registers. Any type; one group.
#pragma once

#include "cuda/conv2d_gather.h"
#include "cuda/sum_pieces.cuh"
#include "cuda/workspace.h"

namespace chalk::cuda {

constexpr int tiled_size = 64, tiled_depth = 16, tiled_threads = 256;

// A slice of both operands. Rows of 68: with 64, the 16 threads that write the depths of one row of
// the product would all meet in one bank.
template <typename T>
struct alignas(16) TiledSlice {
  T a[tiled_depth][tiled_size + 4], b[tiled_depth][tiled_size + 4];
};

// The 4 x 4 of the tile that a thread owns, from (row(), column()) on.
template <typename T>
struct TiledSums {
  T values[4][4] = {};

  static __device__ int row() { return static_cast<int>(threadIdx.x) / 16 * 4; }
  static __device__ int column() { return static_cast<int>(threadIdx.x) % 16 * 4; }

  __device__ void add_products(const TiledSlice<T>& slice) {
    for (int k = 0; k < tiled_depth; ++k)
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j)
          values[i][j] += slice.a[k][row() + i] * slice.b[k][column() + j];
  }

  // to[column, ..] of row i, as far as there are columns.
  __device__ void store_row(int i, int first_column, int columns, T* to) const {
    for (int j = 0; j < 4; ++j)
      if (first_column + column() + j < columns) to[first_column + column() + j] = values[i][j];
  }
};

// Forward pass, or the input gradient: A is x or dy, C is y or dx. blockIdx = (tile of rows, tile
// of columns, phase). Threads load the depth that is their number % 16, which lies beside their
// neighbour's.
template <typename T, bool backward>
__global__ void __launch_bounds__(tiled_threads)
    tiled_gather(ConvShape s, const T* a, const T* weight, T* c) {
  __shared__ TiledSlice<T> slice;
  const Gather g = gather_of<backward>(s, blockIdx.z);
  const int first_row = blockIdx.x * tiled_size, first_column = blockIdx.y * tiled_size;
  const int my_depth = threadIdx.x % 16, my_row = threadIdx.x / 16, products = g.products();
  const GatherRow rows[4] = {{g, s.batch, first_row + my_row},
                             {g, s.batch, first_row + my_row + 16},
                             {g, s.batch, first_row + my_row + 32},
                             {g, s.batch, first_row + my_row + 48}};
  Depth depth;
  depth.advance(g, my_depth);
  TiledSums<T> sums;
  for (int k = 0; k < products; k += tiled_depth, depth.advance(g, tiled_depth)) {
    for (int i = 0; i < 4; ++i) {
      const int pixel = rows[i].pixel(g, depth);
      slice.a[my_depth][my_row + 16 * i] = pixel < 0 ? T(0) : a[pixel * g.depth + depth.c];
    }
    for (int i = 0; i < 4; ++i) {
      if constexpr (backward) {  // W[tap, column, depth]
        const int column = first_column + my_row + 16 * i;
        const bool exists = depth.exists(g) && column < g.columns;
        const int at = (depth.tap(g) * g.columns + column) * g.depth + depth.c;
        slice.b[my_depth][my_row + 16 * i] = exists ? weight[at] : T(0);
      } else {  // W[depth, column], all taps in their order
        const int row = threadIdx.x / 64 + 4 * i, column = threadIdx.x % 64;
        const bool exists = k + row < products && first_column + column < g.columns;
        const int at = (k + row) * g.columns + first_column + column;
        slice.b[row][column] = exists ? weight[at] : T(0);
      }
    }
    __syncthreads();
    sums.add_products(slice);
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i) {
    const int m = first_row + TiledSums<T>::row() + i;
    if (m < g.rows(s.batch))
      sums.store_row(i, first_column, g.columns, c + target_pixel(g, m) * g.columns);
  }
}

// dweight[(i, j, c), o] = sum over output pixels of x[pixel under (i, j), c] dy[pixel, o], of the
// pixels of one piece. blockIdx = (tile of (i, j, c), tile of o, piece); a thread loads one row and
// one column of the product for every fourth pixel.
template <typename T>
__global__ void __launch_bounds__(tiled_threads)
    tiled_backward_weight(ConvShape s, Pieces pieces, const T* x, const T* dy, T* sums_of_pieces) {
  __shared__ TiledSlice<T> slice;
  const int first_row = blockIdx.x * tiled_size, first_column = blockIdx.y * tiled_size;
  const int rows = s.taps() * s.in, my_place = threadIdx.x % 64, my_pixel = threadIdx.x / 64;
  const Gather g = gather_of<false>(s, 0);
  const Depth row = Depth::of(g, first_row + my_place);
  const int column = first_column + my_place, first = blockIdx.z * pieces.steps * tiled_depth;
  const int end = min(first + pieces.steps * tiled_depth, s.outputs());
  TiledSums<T> sums;
  for (int m = first; m < end; m += tiled_depth) {
    for (int k = my_pixel; k < tiled_depth; k += 4) {
      const int pixel = GatherRow(g, s.batch, m + k).pixel(g, row);
      const bool exists = m + k < end && column < s.out;
      slice.a[k][my_place] = pixel < 0 ? T(0) : x[pixel * s.in + row.c];
      slice.b[k][my_place] = exists ? dy[(m + k) * s.out + column] : T(0);
    }
    __syncthreads();
    sums.add_products(slice);
    __syncthreads();
  }
  T* to = sums_of_pieces + static_cast<std::size_t>(blockIdx.z) * s.weights();
  for (int i = 0; i < 4; ++i) {
    const int m = first_row + TiledSums<T>::row() + i;
    if (m < rows) sums.store_row(i, first_column, s.out, to + m * s.out);
  }
}

template <typename T>
void conv2d_tiled_forward(const Conv2dSizes& sizes, const T* x, const T* weight, T* y) {
  const ConvShape s = conv_shape(sizes);
  const dim3 grid(blocks_for(s.outputs(), tiled_size), blocks_for(s.out, tiled_size));
  launch(tiled_gather<T, false>, grid, tiled_threads, 0, s, x, weight, y);
}

template <typename T>
void conv2d_tiled_backward_input(const Conv2dSizes& sizes, const T* dy, const T* weight, T* dx) {
  const ConvShape s = conv_shape(sizes);
  const dim3 grid(blocks_for(largest_phase(s), tiled_size), blocks_for(s.in, tiled_size),
                  phases(s.height, s.stride) * phases(s.width, s.stride));
  launch(tiled_gather<T, true>, grid, tiled_threads, 0, s, dy, weight, dx);
}

template <typename T>
void conv2d_tiled_backward_weight(const Conv2dSizes& sizes, const T* x, const T* dy, T* dweight) {
  const ConvShape s = conv_shape(sizes);
  dim3 grid(blocks_for(s.taps() * s.in, tiled_size), blocks_for(s.out, tiled_size));
  const int steps = (s.outputs() + tiled_depth - 1) / tiled_depth, least = 16;
  const Pieces pieces = split_sum(steps, static_cast<int>(grid.x * grid.y), least);
  grid.z = pieces.count;
  Workspace workspace;
  T* sums = pieces.count == 1 ? dweight : workspace.take<T>(pieces.count * Index(s.weights()));
  launch(tiled_backward_weight<T>, grid, tiled_threads, 0, s, pieces, x, dy, sums);
  if (pieces.count > 1) sum_pieces(pieces.count, s.weights(), sums, dweight);
}

}  // namespace chalk::cuda
