// A matrix [rows, columns] that blocks walk down, and sums over its rows: one for every column.
//
// A block is x threads side by side and y below each other; a thread has one column, or a pack of
// 4, and every y-th row of the block's. So neighbours read neighbouring elements, and what belongs
// to a column (a mean, a scale, a sum) stays in registers. A sum over all rows takes two kernels:
//   pieces [count, sums, columns], of double: every block writes what its rows come to;
//   finish: the pieces are added up, always in the same order.
// Whatever makes such pieces, the end of a convolution for example, can leave the rest to finish.
#pragma once

#include <algorithm>
#include <bit>

#include "cuda/gpu.h"
#include "cuda/workspace.h"

namespace chalk::cuda {

// ---- packs: neighbouring elements that one instruction reads or writes ----

template <typename T, int n>
struct alignas(n == 1 ? sizeof(T) : std::min<std::size_t>(16, n * sizeof(T))) Pack {
  T at[n];
};

// Pack number i of `from`, whose address is a multiple of the pack's alignment.
template <int n, typename T>
__device__ Pack<T, n> load(const T* from, int i) {
  return reinterpret_cast<const Pack<T, n>*>(from)[i];
}
template <typename T, int n>
__device__ void store(T* to, int i, const Pack<T, n>& pack) {
  reinterpret_cast<Pack<T, n>*>(to)[i] = pack;
}

// Packs of 4 need every row to begin at a multiple of 16 bytes.
inline bool in_packs(int columns) {
  return columns % 4 == 0;
}

// ---- how blocks share the matrix ----

constexpr int column_threads = 256;  // of a block

// pieces: how many parts the rows are cut into. It depends on the sizes alone, so that sums have
// the same bits on every device.
struct ColumnCut {
  unsigned tiles, pieces;
  dim3 block;

  dim3 grid() const { return {tiles, pieces}; }
};

// The shared memory in which the threads of a block join so many values of V each.
template <typename V = double>
std::size_t shared_for(int values) {
  return static_cast<std::size_t>(values) * column_threads * sizeof(V);
}

// For matrices [rows, columns] of which there are `count`; a column is whatever a thread has.
inline ColumnCut cut_columns(int rows, int columns, int count = 1) {
  constexpr int blocks = 512;       // that many keep a large GPU busy
  constexpr int rows_a_thread = 8;  // at least, lest the pieces outnumber what they sum up
  const unsigned x = std::bit_ceil(static_cast<unsigned>(std::clamp(columns, 1, 32)));
  const unsigned y = column_threads / x;
  const unsigned tiles = blocks_for(columns, static_cast<int>(x));
  const Index wanted = blocks / std::max<Index>(1, Index{tiles} * count);
  const Index most = rows / (rows_a_thread * static_cast<int>(y));
  return {tiles, static_cast<unsigned>(std::max<Index>(1, std::min(wanted, most))), dim3(x, y)};
}

// What a thread has to do: for (int row = begin; row < end; row += step).
struct ColumnPart {
  int column, begin, end, step;

  // Threads right of the last column have no rows. They stay, for the sums' barriers.
  __device__ ColumnPart(int rows, int columns, unsigned tile = blockIdx.x)
      : column(static_cast<int>(tile * blockDim.x + threadIdx.x)), step(blockDim.y) {
    const int each = (rows + gridDim.y - 1) / gridDim.y;
    begin = static_cast<int>(blockIdx.y) * each + static_cast<int>(threadIdx.y);
    end = column < columns ? std::min(rows, static_cast<int>(blockIdx.y + 1) * each) : 0;
  }
};

// ---- sums ----

// Joins the values of the threads below each other; those with threadIdx.y == 0 get the results.
// In halves, so always in the same order. For all threads of the block, once in a kernel, which
// needs shared_for<V>(count).
template <typename V, int count, typename Join>
__device__ void over_lanes(V (&value)[count], const Join& join) {
  const int stride = blockDim.x * blockDim.y;
  V* mine = dynamic_shared<V>() + threadIdx.y * blockDim.x + threadIdx.x;
  for (int i = 0; i < count; ++i)
    mine[i * stride] = value[i];
  for (int half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.y) >= half) continue;
    for (int i = 0; i < count; ++i)
      mine[i * stride] = join(mine[i * stride], mine[i * stride + half * blockDim.x]);
  }
  for (int i = 0; i < count; ++i)
    value[i] = mine[i * stride];
}

template <int count>
__device__ void sum_over_lanes(double (&sum)[count]) {
  over_lanes(sum, [](double a, double b) { return a + b; });
}

// The block's row of `pieces` [gridDim.y, sums, columns]: sum[i * n + j] is the thread's part of
// sum i of its column j. `part` counts packs of n columns.
template <int sums, int n>
__device__ void store_piece(const ColumnPart& part, int columns, double (&sum)[sums * n],
                            double* pieces) {
  sum_over_lanes(sum);
  if (threadIdx.y > 0 || part.column * n >= columns) return;
  for (int i = 0; i < sums; ++i)
    for (int j = 0; j < n; ++j)
      pieces[(blockIdx.y * sums + i) * columns + part.column * n + j] = sum[i * n + j];
}

// The block of a kernel that adds up pieces; it has a column for every threadIdx.x. Few of them, 32
// bytes of double, so that there are many threads to read the pieces of each.
constexpr int finish_columns = 4;

inline dim3 finish_block() {
  return {finish_columns, column_threads / finish_columns};
}
inline dim3 finish_grid(int columns) {
  return {std::max(1u, blocks_for(columns, finish_columns))};
}

// sum[i] = sum i of the thread's column, over all pieces; for threads with threadIdx.y == 0.
template <int sums>
__device__ void add_pieces(int count, int columns, const double* pieces, double (&sum)[sums]) {
  const ColumnPart part(count, columns);
  for (int i = 0; i < sums; ++i)
    sum[i] = 0;
#pragma unroll 8
  for (int piece = part.begin; piece < part.end; piece += part.step)
    for (int i = 0; i < sums; ++i)
      sum[i] += pieces[(piece * sums + i) * columns + part.column];
  sum_over_lanes(sum);
}

}  // namespace chalk::cuda
