// Matrix products, second and third rung: tiles in shared memory, and in registers.
//
// A block of 16 x 16 threads computes a tile of C, 16 `each` rows by 16 `each` columns, of which a
// thread has each x each elements. It takes the depth in steps of 16: all threads bring the two
// tiles of A and B into shared memory, then all read them there.
//   each = 1: a number that has been fetched from memory is used 16 times, but every
//             multiplication still reads two numbers of shared memory.
//   each = 4: fetched once, used 64 times; and 8 numbers read from shared memory into registers
//             make 16 multiplications.
#pragma once

#include "cuda/matmul_naive.cuh"

namespace chalk::cuda {

constexpr int tiled_side = 16;  // threads of a block in each direction, and the depth of a step

// to[k][row] = factor(n, row0 + row, k0 + k) for `rows` rows, and 0 beyond its edges. Neighbouring
// threads fetch what memory has together, whichever way the factor lies.
template <typename T, int rows>
__device__ void load_tile(const Factor<T>& factor, int n, int row0, int row_end, int k0, int k_end,
                          T (&to)[tiled_side][rows + 4]) {
  const int thread = static_cast<int>(threadIdx.y * tiled_side + threadIdx.x);
  for (int i = thread; i < rows * tiled_side; i += tiled_side * tiled_side) {
    const int k = factor.along_depth() ? i % tiled_side : i / rows;
    const int row = factor.along_depth() ? i / tiled_side : i % rows;
    const bool inside = row0 + row < row_end && k0 + k < k_end;
    to[k][row] = inside ? *factor.at(n, row0 + row, k0 + k) : T(0);
  }
}

template <typename T, int each>
__global__ void matmul_tiled_kernel(MatrixProduct<T> p) {
  constexpr int tile = tiled_side * each;
  alignas(16) __shared__ T a[tiled_side][tile + 4];
  alignas(16) __shared__ T b[tiled_side][tile + 4];
  const int block = static_cast<int>(blockIdx.x);
  const int column_tiles = (p.columns + tile - 1) / tile, row_tiles = (p.rows + tile - 1) / tile;
  const int column0 = block % column_tiles * tile, row0 = block / column_tiles % row_tiles * tile;
  const int n = block / column_tiles / row_tiles;
  const int own_column = static_cast<int>(threadIdx.x) * each;
  const int own_row = static_cast<int>(threadIdx.y) * each;

  T sums[each][each] = {};
  for (int k0 = 0; k0 < p.inner; k0 += tiled_side) {
    load_tile<T, tile>(p.a, n, row0, p.rows, k0, p.inner, a);
    load_tile<T, tile>(p.b, n, column0, p.columns, k0, p.inner, b);
    __syncthreads();  // the tiles are there
    for (int k = 0; k < tiled_side; ++k) {
      for (int i = 0; i < each; ++i)
        for (int j = 0; j < each; ++j)
          sums[i][j] += a[k][own_row + i] * b[k][own_column + j];
    }
    __syncthreads();  // all have read them: the next may come
  }
  for (int i = 0; i < each; ++i) {
    for (int j = 0; j < each; ++j) {
      const int row = row0 + own_row + i, column = column0 + own_column + j;
      if (row < p.rows && column < p.columns)
        p.c[(n * p.rows + row) * p.columns + column] = sums[i][j];
    }
  }
}

template <typename T, int each>
void matmul_tiled(const MatrixProduct<T>& p) {
  constexpr int tile = tiled_side * each;
  const unsigned tiles =
      static_cast<unsigned>(p.batch) * blocks_for(p.rows, tile) * blocks_for(p.columns, tile);
  launch(matmul_tiled_kernel<T, each>, tiles, dim3(tiled_side, tiled_side), 0, p);
}

}  // namespace chalk::cuda
