// The warp tile (tile.cuh) with numbers that are all different: who holds which part of an operand,
// in either way that it may lie in shared memory, and of the result. On a GPU this holds the
// hardware to the layout, emulated the kernels.
#include <doctest/doctest.h>

#include <vector>

#include "cuda/tile.cuh"
#include "tests/cuda/device_values.h"

using namespace chalk::cuda;

namespace {

// Where element (row, depth) of an operand lies in shared memory.
__device__ int operand_place(bool along, int rows, int row, int k) {
  return along ? row * along_stride + k : across_slot(k) * across_stride(rows) + row;
}

template <int rows>
__device__ Operand<rows> read_operand(bool along, const float* from) {
  Operand<rows> operand;
  if (along)
    operand.read_along(from);
  else
    operand.read_across(from, across_stride(rows));
  return operand;
}

// C = A B by one warp: a [rows, 16], b [columns, 16], c [rows, columns].
template <int rows, int columns>
__global__ void tile_kernel(bool a_along, bool b_along, const float* a, const float* b, float* c) {
  float* a_shared = dynamic_shared<float>();
  float* b_shared = a_shared + rows * along_stride;
  const int lane = lane_of_warp();
  for (int i = lane; i < rows * tile_depth; i += 32)
    a_shared[operand_place(a_along, rows, i / tile_depth, i % tile_depth)] = a[i];
  for (int i = lane; i < columns * tile_depth; i += 32)
    b_shared[operand_place(b_along, columns, i / tile_depth, i % tile_depth)] = b[i];
  __syncthreads();
  WarpTile<rows, columns> tile;
  tile.multiply(read_operand<rows>(a_along, a_shared), read_operand<columns>(b_along, b_shared));
#pragma unroll
  for (int j = 0; j < tile.rows_of_lane; ++j)
#pragma unroll
    for (int q = 0; q < tile.runs_of_lane; ++q)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        c[lane_row(lane, j) * columns + lane_column(lane, q) + e] = tile.at(j, q, e);
}

// Their numbers have 10 bits, and sums of 16 products 24: all is exact.
template <int rows, int columns>
void check_tile() {
  std::vector<float> a, b, expected;
  for (int i = 0; i < rows * tile_depth; ++i)
    a.push_back(static_cast<float>(i * 13 % 1024));
  for (int i = 0; i < columns * tile_depth; ++i)
    b.push_back(static_cast<float>(1023 - i * 29 % 1024));
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      float sum = 0;
      for (int k = 0; k < tile_depth; ++k)
        sum += a[static_cast<std::size_t>(row * tile_depth + k)] *
               b[static_cast<std::size_t>(column * tile_depth + k)];
      expected.push_back(sum);
    }
  }
  const DeviceValues<float> on_device_a(a), on_device_b(b), c(expected.size());
  const std::size_t shared = (rows + columns) * along_stride * sizeof(float);
  for (const bool a_along : {true, false}) {
    for (const bool b_along : {true, false}) {
      CAPTURE(a_along);
      CAPTURE(b_along);
      launch(tile_kernel<rows, columns>, 1, 32, shared, a_along, b_along, on_device_a.data(),
             on_device_b.data(), c.data());
      CHECK(c.read() == expected);
    }
  }
}

}  // namespace

TEST_CASE("a warp's tile is the product, however its operands lie") {
  check_tile<64, 64>();
  check_tile<32, 64>();
  check_tile<64, 32>();
  check_tile<32, 32>();
}
