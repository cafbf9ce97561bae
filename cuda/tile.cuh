// The part of one warp in a matrix product by tensor cores: C += A B with A [rows, 16] and B [16,
// columns] in shared memory and C in the warp's registers; rows and columns are 32 or 64. The two
// matrix products, of matrices and of convolutions, are built of it.
//
// The tensor core multiplies [16, 8] by [8, 8]. Which rows, columns and depths make up such a small
// product is free, as long as A, B and C agree. Here they are chosen so that every lane reads
// shared memory, and writes C, 16 bytes at a time: tile_layout.h says how. One step of 64 x 64 is
// 64 small products for 16 reads of each lane; the result fills 128 of its registers.
//
//   WarpTile<64, 64> c;
//   for each step {
//     Operand<64> a, b;
//     a.read_along(a_in_shared_memory);                       // or read_across
//     b.read_across(b_in_shared_memory, across_stride(columns of the block));
//     c.multiply(a, b);
//   }
//   for (int j = 0; j < c.rows_of_lane; ++j)
//     for (int q = 0; q < c.runs_of_lane; ++q)
//       c.run(j, q) are the four elements from (lane_row(lane, j), lane_column(lane, q)) on.
//
// Loops over operands and results are marked for unrolling everywhere: registers can't be numbered
// by a variable, and a loop that stays one would move the array to memory.
#pragma once

#include "cuda/gpu.h"
#include "cuda/tile_layout.h"

namespace chalk::cuda {

__device__ inline int lane_of_warp() {
  return static_cast<int>(threadIdx.x % 32);
}

// What a lane holds of `rows` rows of A, or columns of B: 4 depths of each that it owns, in TF32.
template <int rows>
struct Operand {
  static constexpr int rows_of_lane = rows / 8;
  std::uint32_t values[rows_of_lane][4];

  // Row j from its depths at `from`, a multiple of 16 bytes.
  __device__ void read_row(int j, const float* from) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    values[j][0] = to_tf32(four.x);
    values[j][1] = to_tf32(four.y);
    values[j][2] = to_tf32(four.z);
    values[j][3] = to_tf32(four.w);
  }

  // From [rows][along_stride].
  __device__ void read_along(const float* from) {
#pragma unroll
    for (int j = 0; j < rows_of_lane; ++j)
      read_row(j, from + along_place(lane_of_warp(), j));
  }

  // Rows 4 h .. 4 h + 3 at the depth that is the lane's number q.
  __device__ void read_four_rows(int q, int h, const float* from) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    values[4 * h][q] = to_tf32(four.x);
    values[4 * h + 1][q] = to_tf32(four.y);
    values[4 * h + 2][q] = to_tf32(four.z);
    values[4 * h + 3][q] = to_tf32(four.w);
  }

  // From [tile_depth][stride]; stride is across_stride of 32, 64, 128 or 256.
  __device__ void read_across(const float* from, int stride) {
#pragma unroll
    for (int q = 0; q < 4; ++q) {
#pragma unroll
      for (int h = 0; h < rows / 32; ++h)
        read_four_rows(q, h, from + across_place(lane_of_warp(), q, h, stride));
    }
  }
};

// What a lane holds of C.
template <int rows, int columns>
struct WarpTile {
  static constexpr int rows_of_lane = rows / 8, runs_of_lane = columns / 16;
  float sums[rows / 16][columns / 8][4] = {};

  // Small product (i, j) takes the rows 2 i and 2 i + 1 that each lane owns, and its column j.
  __device__ void multiply(const Operand<rows>& a, const Operand<columns>& b) {
#pragma unroll
    for (int k = 0; k < 4; k += 2) {
#pragma unroll
      for (int i = 0; i < rows / 16; ++i) {
        const std::uint32_t a_part[4] = {a.values[2 * i][k], a.values[2 * i + 1][k],
                                         a.values[2 * i][k + 1], a.values[2 * i + 1][k + 1]};
#pragma unroll
        for (int j = 0; j < columns / 8; ++j) {
          const std::uint32_t b_part[2] = {b.values[j][k], b.values[j][k + 1]};
          mma_tf32(sums[i][j], a_part, b_part);
        }
      }
    }
  }

  // Element e of run q of row j. The tensor core leaves a lane the columns that the lane groups 2 t
  // and 2 t + 1 own.
  __device__ float& at(int j, int q, int e) {
    return sums[j / 2][q / 2 * 4 + e][j % 2 * 2 + q % 2];
  }
  __device__ float4 run(int j, int q) {
    return make_float4(at(j, q, 0), at(j, q, 1), at(j, q, 2), at(j, q, 3));
  }
};

}  // namespace chalk::cuda
