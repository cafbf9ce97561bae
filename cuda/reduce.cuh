// Sums and maxima along one axis of x [outer, length, inner], as y [outer, inner].
//
// With inner == 1 an axis is a row of neighbours, and there is a ladder: the same kernel with a
// thread, a warp or a block a row (RowRung). A thread a row reads memory badly, its neighbour's
// elements lie a whole row away, but needs nobody else; a warp reads 32 neighbours at once and then
// joins 32 values by shuffles; a block has 8 warps for a long row, which join theirs in shared
// memory. Where rows are so few and long that a block each would leave the GPU idle, and with
// inner > 1, they are columns of several blocks, in two stages: see columns.cuh.
//
// Sums are kept in double, whatever T: reading the elements takes longer.
#pragma once

#include <climits>
#include <limits>

#include "autograd/backend.h"
#include "cuda/columns.cuh"
#include "cuda/ladders.h"

namespace chalk::cuda {

// ---- rows: what `threads` = 1, 32 or 256 threads that share a row do together ----

constexpr int row_block = 256;  // threads of a block, so it has row_block / threads rows

template <int threads>
__device__ int row_of_thread() {
  return static_cast<int>(blockIdx.x) * (row_block / threads) +
         static_cast<int>(threadIdx.x) / threads;
}

// A value of another lane of the warp: that whose number differs in these bits.
template <typename V>
__device__ V from_lane(V value, int bits) {
  return __shfl_xor_sync(0xffffffffu, value, bits);
}

// join(...) of the values of all threads of a row, in an order that is always the same; each of
// them gets it.
template <int threads, typename V, typename Join>
__device__ V over_row(V value, const Join& join) {
  if constexpr (threads >= 32)
    for (int bits = 16; bits > 0; bits /= 2)
      value = join(value, from_lane(value, bits));
  if constexpr (threads > 32) {
    __shared__ V of_warp[threads / 32];
    __syncthreads();  // the values of the call before have been read
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    value = of_warp[0];
    for (int warp = 1; warp < threads / 32; ++warp)
      value = join(value, of_warp[warp]);
  }
  return value;
}

template <int threads>
__device__ double row_sum(double value) {
  return over_row<threads>(value, [](double a, double b) { return a + b; });
}

// The rung for rows of this length: a choice, or by length.
inline RowRung rung_of_rows(int length) {
  if (row_rung() != RowRung::automatic) return row_rung();
  return length <= 8 ? RowRung::thread : length <= 1024 ? RowRung::warp : RowRung::block;
}

// Launches one of the same kernel's instances for 1, 32 and 256 threads a row.
template <typename... Parameters, typename... Arguments>
void launch_rows(int rows, int length, void (*thread)(Parameters...), void (*warp)(Parameters...),
                 void (*block)(Parameters...), const Arguments&... arguments) {
  const RowRung rung = rung_of_rows(length);
  const bool by_thread = rung == RowRung::thread, by_warp = rung == RowRung::warp;
  launch(by_thread ? thread
         : by_warp ? warp
                   : block,
         blocks_for(rows, by_thread ? row_block
                          : by_warp ? row_block / 32
                                    : 1),
         row_block, 0, arguments...);
}

// ---- the sum ----

// y[row] = sum of x[row, i]
template <typename T, int threads>
__global__ void sum_rows(int rows, int length, const T* x, T* y) {
  const int row = row_of_thread<threads>(), first = threadIdx.x % threads;
  if (row >= rows) return;  // with all threads of that row
  double sum = 0;
  for (int i = first; i < length; i += threads)
    sum += static_cast<double>(x[row * length + i]);
  sum = row_sum<threads>(sum);
  if (first == 0) y[row] = static_cast<T>(sum);
}

// y[o, piece, i] = sum over the piece's l of x[o, l, i]; blockIdx.x = o tiles + tile of columns
template <typename From, typename To>
__global__ void sum_columns(int tiles, int length, int inner, const From* x, To* y) {
  const int outer = blockIdx.x / tiles;
  const ColumnPart part(length, inner, blockIdx.x % tiles);
  const From* column = x + outer * length * inner + part.column;
  double sum[1] = {};
  for (int l = part.begin; l < part.end; l += part.step)
    sum[0] += static_cast<double>(column[l * inner]);
  sum_over_lanes(sum);
  if (threadIdx.y == 0 && part.column < inner)
    y[(outer * gridDim.y + blockIdx.y) * inner + part.column] = static_cast<To>(sum[0]);
}

// One stage of it, with the cut's pieces or, as the second stage, with one.
template <typename From, typename To>
void sum_columns_stage(ColumnCut cut, int outer, int length, int inner, const From* x, To* y) {
  launch(sum_columns<From, To>, dim3(cut.tiles * static_cast<unsigned>(outer), cut.pieces),
         cut.block, shared_for(1), static_cast<int>(cut.tiles), length, inner, x, y);
}

template <typename T>
void sum(const AxisSizes& sizes, const T* x, T* y) {
  to_int(sizes.outer * sizes.length * sizes.inner);  // so that offsets fit
  const int outer = to_int(sizes.outer), length = to_int(sizes.length), inner = to_int(sizes.inner);
  const ColumnCut cut = cut_columns(length, inner, outer);
  if (inner == 1 && (cut.pieces == 1 || rung_of_rows(length) != RowRung::block))
    return launch_rows(outer, length, sum_rows<T, 1>, sum_rows<T, 32>, sum_rows<T, row_block>,
                       outer, length, x, y);
  if (cut.pieces == 1) return sum_columns_stage(cut, outer, length, inner, x, y);
  Workspace workspace;
  const int pieces = static_cast<int>(cut.pieces);
  double* partial = workspace.take<double>(Index{outer} * pieces * inner);
  sum_columns_stage(cut, outer, length, inner, x, partial);
  sum_columns_stage({cut.tiles, 1, cut.block}, outer, pieces, inner, partial, y);
}

// ---- the maximum: NaN counts as larger than all ----

template <typename T>
struct Best {
  T value;
  int position;
};

// Of no elements.
template <typename T>
__device__ Best<T> no_best() {
  return {-std::numeric_limits<T>::infinity(), INT_MAX};
}

template <typename T>
__device__ Best<T> from_lane(const Best<T>& best, int bits) {
  return {from_lane(best.value, bits), from_lane(best.position, bits)};
}

// The larger of two, or the one found first: so it does not matter in which order more are joined.
template <typename T>
__device__ Best<T> better(const Best<T>& a, const Best<T>& b) {
  const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
  const bool equal = a_nan ? b_nan : a.value == b.value;
  if (equal) return a.position < b.position ? a : b;
  return a_nan || a.value > b.value ? a : b;
}

// y[row] = max of x[row, i], position[row] = the first such i
template <typename T, int threads>
__global__ void max_rows(int rows, int length, const T* x, T* y, std::int64_t* position) {
  const int row = row_of_thread<threads>(), first = threadIdx.x % threads;
  if (row >= rows) return;  // with all threads of that row
  Best<T> best = no_best<T>();
  for (int i = first; i < length; i += threads)
    best = better(best, {x[row * length + i], i});
  best = over_row<threads>(best, better<T>);
  if (first > 0) return;
  y[row] = best.value;
  position[row] = best.position;
}

// y[o, piece, i] = max over the piece's l of x[o, l, i], position = the first such l; or, where x
// are maxima themselves, the place [o, l, i] in `where`.
template <typename T>
__global__ void max_columns(int tiles, int length, int inner, const T* x, const std::int64_t* where,
                            T* y, std::int64_t* position) {
  const int outer = blockIdx.x / tiles;
  const ColumnPart part(length, inner, blockIdx.x % tiles);
  Best<T> best[1] = {no_best<T>()};
  for (int l = part.begin; l < part.end; l += part.step) {
    const int at = (outer * length + l) * inner + part.column;
    best[0] = better(best[0], {x[at], where ? static_cast<int>(where[at]) : l});
  }
  over_lanes(best, better<T>);
  if (threadIdx.y > 0 || part.column >= inner) return;
  const int at = (outer * gridDim.y + blockIdx.y) * inner + part.column;
  y[at] = best[0].value;
  position[at] = best[0].position;
}

template <typename T>
void max_columns_stage(ColumnCut cut, int outer, int length, int inner, const T* x,
                       const std::int64_t* where, T* y, std::int64_t* position) {
  launch(max_columns<T>, dim3(cut.tiles * static_cast<unsigned>(outer), cut.pieces), cut.block,
         shared_for<Best<T>>(1), static_cast<int>(cut.tiles), length, inner, x, where, y, position);
}

template <typename T>
void max(const AxisSizes& sizes, const T* x, T* y, std::int64_t* position) {
  to_int(sizes.outer * sizes.length * sizes.inner);  // so that offsets fit
  const int outer = to_int(sizes.outer), length = to_int(sizes.length), inner = to_int(sizes.inner);
  const ColumnCut cut = cut_columns(length, inner, outer);
  if (inner == 1 && (cut.pieces == 1 || rung_of_rows(length) != RowRung::block))
    return launch_rows(outer, length, max_rows<T, 1>, max_rows<T, 32>, max_rows<T, row_block>,
                       outer, length, x, y, position);
  if (cut.pieces == 1)
    return max_columns_stage<T>(cut, outer, length, inner, x, nullptr, y, position);
  Workspace workspace;
  const int pieces = static_cast<int>(cut.pieces);
  T* best = workspace.take<T>(Index{outer} * pieces * inner);
  std::int64_t* where = workspace.take<std::int64_t>(Index{outer} * pieces * inner);
  max_columns_stage<T>(cut, outer, length, inner, x, nullptr, best, where);
  max_columns_stage<T>({cut.tiles, 1, cut.block}, outer, pieces, inner, best, where, y, position);
}

// dx[o, l, i] = dy[o, i] where l is position[o, i], else 0; a thread an element
template <typename T>
__global__ void max_backward_kernel(int count, int length, int inner, const std::int64_t* position,
                                    const T* dy, T* dx) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int from = at / inner / length * inner + at % inner;
  dx[at] = position[from] == at / inner % length ? dy[from] : T(0);
}

template <typename T>
void max_backward(const AxisSizes& sizes, const std::int64_t* position, const T* dy, T* dx) {
  const int count = to_int(sizes.outer * sizes.length * sizes.inner);
  launch(max_backward_kernel<T>, blocks_for(count, 256), 256, 0, count, to_int(sizes.length),
         to_int(sizes.inner), position, dy, dx);
}

}  // namespace chalk::cuda
