// Matrix products, fourth rung: tensor cores, with the factors rounded to TF32.
//
// A block of 4 warps computes 128 x 128 of C, each warp 64 x 64 (tile.cuh), in steps 16 deep. While
// it multiplies one step, the next three are on their way from memory to shared memory, by copies
// that pass the registers by: so many, since a copy takes as long as several steps.
#pragma once

#include "cuda/matmul_naive.cuh"
#include "cuda/tile.cuh"

namespace chalk::cuda {

constexpr int matmul_tile = 128, matmul_threads = 128, matmul_stages = 4;

// How an operand of the block lies in shared memory.
constexpr int matmul_floats(bool along) {
  return along ? matmul_tile * along_stride : tile_depth * across_stride(matmul_tile);
}

// Starts the copy of 128 rows and 16 depths of a factor, zeros beyond its edges: 16 bytes at a time
// if all its rows begin at a multiple of that (`wide`), else single numbers.
template <bool along>
__device__ void copy_operand(const Factor<float>& factor, bool wide, int n, int row0, int row_end,
                             int k0, int k_end, float* to) {
  constexpr int fours = along ? tile_depth / 4 : matmul_tile / 4;  // that memory has together
#pragma unroll
  for (int copy = 0; copy < matmul_tile * tile_depth / 4 / matmul_threads; ++copy) {
    const int i = copy * matmul_threads + static_cast<int>(threadIdx.x);
    const int k = along ? i % fours * 4 : i / fours, row = along ? i / fours : i % fours * 4;
    float* place =
        to + (along ? row * along_stride + k : across_slot(k) * across_stride(matmul_tile) + row);
    const bool inside = row0 + row < row_end && k0 + k < k_end;
    const float* from = inside ? factor.at(n, row0 + row, k0 + k) : factor.start;
    const int left = !inside ? 0 : along ? k_end - k0 - k : row_end - row0 - row;
    if (wide) {
      cp_async16(place, from, inside);
    } else {
      for (int e = 0; e < 4; ++e)
        cp_async4(place + e, e < left ? from + e : factor.start, e < left);
    }
  }
}

template <bool along>
__device__ void read_operand(const float* from, int row0, Operand<64>& operand) {
  if constexpr (along)
    operand.read_along(from + row0 * along_stride);
  else
    operand.read_across(from + row0, across_stride(matmul_tile));
}

// Writes the warp's tile to C from (row0, column0) on, as far as C goes.
__device__ inline void store_tile(const MatrixProduct<float>& p, bool wide, int n, int row0,
                                  int column0, WarpTile<64, 64>& tile) {
#pragma unroll
  for (int j = 0; j < tile.rows_of_lane; ++j) {
    const int row = row0 + lane_row(lane_of_warp(), j);
    if (row >= p.rows) continue;
    float* to = p.c + (n * p.rows + row) * p.columns;
#pragma unroll
    for (int q = 0; q < tile.runs_of_lane; ++q) {
      const int column = column0 + lane_column(lane_of_warp(), q);
      if (wide) {
        if (column < p.columns) *reinterpret_cast<float4*>(to + column) = tile.run(j, q);
      } else {
        for (int e = 0; e < 4; ++e)
          if (column + e < p.columns) to[column + e] = tile.at(j, q, e);
      }
    }
  }
}

template <bool a_along, bool b_along>
__global__ void __launch_bounds__(matmul_threads)
    matmul_tensor_kernel(MatrixProduct<float> p, bool wide_a, bool wide_b, bool wide_c) {
  float* a_stages = dynamic_shared<float>();
  float* b_stages = a_stages + matmul_stages * matmul_floats(a_along);
  const int block = static_cast<int>(blockIdx.x), warp = static_cast<int>(threadIdx.x) / 32;
  const int column_tiles = (p.columns + matmul_tile - 1) / matmul_tile;
  const int row_tiles = (p.rows + matmul_tile - 1) / matmul_tile;
  const int column0 = block % column_tiles * matmul_tile;
  const int row0 = block / column_tiles % row_tiles * matmul_tile;
  const int n = block / column_tiles / row_tiles;
  const int warp_row = warp / 2 * 64, warp_column = warp % 2 * 64;
  const int steps = (p.inner + tile_depth - 1) / tile_depth;

  // Steps that there aren't make a group of no copies, so that the count of groups goes on.
  const auto copy = [&](int step) {
    if (step < steps) {
      const int stage = step % matmul_stages, k0 = step * tile_depth;
      copy_operand<a_along>(p.a, wide_a, n, row0, p.rows, k0, p.inner,
                            a_stages + stage * matmul_floats(a_along));
      copy_operand<b_along>(p.b, wide_b, n, column0, p.columns, k0, p.inner,
                            b_stages + stage * matmul_floats(b_along));
    }
    cp_async_commit();
  };
  for (int step = 0; step < matmul_stages - 1; ++step)
    copy(step);
  WarpTile<64, 64> c;
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<matmul_stages - 2>();
    __syncthreads();  // the step is there, and all have read the one whose place the next takes
    copy(step + matmul_stages - 1);
    const int stage = step % matmul_stages;
    Operand<64> a, b;
    read_operand<a_along>(a_stages + stage * matmul_floats(a_along), warp_row, a);
    read_operand<b_along>(b_stages + stage * matmul_floats(b_along), warp_column, b);
    c.multiply(a, b);
  }
  store_tile(p, wide_c, n, row0 + warp_row, column0 + warp_column, c);
}

// Whether every four elements that begin at a multiple of 4 in a row of a matrix are 16 bytes from
// a multiple of 16 on; a row follows the row before it after `row` elements.
inline bool in_fours(const float* start, int batch_stride, int row) {
  return reinterpret_cast<std::uintptr_t>(start) % 16 == 0 && batch_stride % 4 == 0 && row % 4 == 0;
}

template <bool a_along, bool b_along>
void launch_matmul_tensor(const MatrixProduct<float>& p) {
  const unsigned tiles = static_cast<unsigned>(p.batch) * blocks_for(p.rows, matmul_tile) *
                         blocks_for(p.columns, matmul_tile);
  const std::size_t bytes =
      sizeof(float) * matmul_stages * (matmul_floats(a_along) + matmul_floats(b_along));
  const auto wide = [](const Factor<float>& factor, bool along) {
    return in_fours(factor.start, factor.batch_stride,
                    along ? factor.row_stride : factor.depth_stride);
  };
  launch(matmul_tensor_kernel<a_along, b_along>, tiles, matmul_threads, bytes, p,
         wide(p.a, a_along), wide(p.b, b_along), in_fours(p.c, 0, p.columns));
}

inline void matmul_tensor(const MatrixProduct<float>& p) {
  const bool a_along = p.a.along_depth(), b_along = p.b.along_depth();
  if (a_along && b_along) launch_matmul_tensor<true, true>(p);
  if (a_along && !b_along) launch_matmul_tensor<true, false>(p);
  if (!a_along && b_along) launch_matmul_tensor<false, true>(p);
  if (!a_along && !b_along) launch_matmul_tensor<false, false>(p);
}

}  // namespace chalk::cuda
