// Convolution, fourth rung: the implicit matrix product of conv2d_tiled.cuh by tensor cores, in
// TF32. Two things change. A warp multiplies tiles of 64 x 64 (tile.cuh). And the slices travel
// from memory to shared memory in the background: while the warps multiply one of four slices, the
// next three are on their way.
//
// The last row of the ladder's limits: what a block brings in per product. Slices of 128 x 64 hold
// 12 KB for 262,144 products, those of 128 x 128, for which there must be enough channels, 16 KB
// for twice as many.
//
// Copies are of 16 bytes where the channels of both images are multiples of 4, else of 4 bytes.
#pragma once

#include "cuda/conv2d_gather.h"
#include "cuda/sum_pieces.cuh"
#include "cuda/tile.cuh"
#include "cuda/workspace.h"

namespace chalk::cuda {

constexpr int tensor_stages = 4;

// A block of 2 x across warps, of which each has 64 x 64 of the tile; `vector` numbers go together
// in a copy.
template <int across, int vector>
struct TensorBlock {
  static constexpr int threads = 64 * across, rows = 128, columns = 64 * across;

  static __device__ int warp_row() { return threadIdx.x / 32 % 2 * 64; }
  static __device__ int warp_column() { return threadIdx.x / 64 * 64; }

  static __device__ void copy(float* to, const float* from, bool valid) {
    if constexpr (vector == 4) {
      cp_async16(to, from, valid);
    } else {
      cp_async4(to, from, valid);
    }
  }

  // The run q of the lane's row j to its place in row `to`, as far as there are columns.
  static __device__ void store(WarpTile<64, 64>& c, int j, int q, int first_column, int end,
                               float* to) {
    const int column = first_column + warp_column() + lane_column(lane_of_warp(), q);
    if constexpr (vector == 4) {
      if (column < end) *reinterpret_cast<float4*>(to + column) = c.run(j, q);
    } else {
      for (int e = 0; e < 4; ++e)
        if (column + e < end) to[column + e] = c.at(j, q, e);
    }
  }
};

// ---- forward pass and input gradient ----

// Slices of A lie along the depth, as the channels of A do in memory; those of the weight too in
// the input gradient, in the forward pass across it.
template <int across, int vector, bool backward>
struct TensorGather : TensorBlock<across, vector> {
  using Block = TensorBlock<across, vector>;
  static constexpr int a_slice = Block::rows * along_stride;
  static constexpr int b_stride = backward ? along_stride : across_stride(Block::columns);
  static constexpr int b_slice = (backward ? Block::columns : tile_depth) * b_stride;
  static constexpr std::size_t shared_bytes =
      tensor_stages * (a_slice + b_slice) * sizeof(float) + Block::rows * sizeof(GatherRow);

  // Copies the slice of A at this depth, which is the thread's own.
  static __device__ void copy_a(const Gather& g, const GatherRow* rows, const Depth& depth,
                                const float* a, float* slice) {
    constexpr int together = tile_depth / vector;
    const int place = threadIdx.x % together * vector;
    for (int row = threadIdx.x / together; row < Block::rows; row += Block::threads / together) {
      const int pixel = rows[row].pixel(g, depth);
      const float* from = pixel < 0 ? a : a + pixel * g.depth + depth.c;
      Block::copy(slice + row * along_stride + place, from, pixel >= 0);
    }
  }

  // W[tap, column, depth]
  static __device__ void copy_b_along(const Gather& g, const Depth& depth, int first_column,
                                      const float* weight, float* slice) {
    constexpr int together = tile_depth / vector;
    const int place = threadIdx.x % together * vector;
    const bool exists = depth.exists(g);
    const float* tap = weight + depth.tap(g) * g.columns * g.depth + depth.c;
    for (int i = threadIdx.x / together; i < Block::columns; i += Block::threads / together) {
      const bool valid = exists && first_column + i < g.columns;
      const float* from = valid ? tap + (first_column + i) * g.depth : weight;
      Block::copy(slice + i * along_stride + place, from, valid);
    }
  }

  // W[depth, column]: all taps, in their order.
  static __device__ void copy_b_across(const Gather& g, int first_depth, int first_column,
                                       const float* weight, float* slice) {
    constexpr int together = Block::columns / vector;
    for (int i = threadIdx.x; i < tile_depth * together; i += Block::threads) {
      const int k = i / together, place = i % together * vector;
      const bool valid = first_depth + k < g.products() && first_column + place < g.columns;
      const int at = (first_depth + k) * g.columns + first_column + place;
      Block::copy(slice + across_slot(k) * b_stride + place, valid ? weight + at : weight, valid);
    }
  }
};

// A is x or dy, C is y or dx. blockIdx = (tile of rows, tile of columns, phase).
template <int across, int vector, bool backward>
__global__ void __launch_bounds__(64 * across)
    tensor_gather(ConvShape s, const float* a, const float* weight, float* c) {
  using Block = TensorGather<across, vector, backward>;
  float* a_slices = dynamic_shared<float>();
  float* b_slices = a_slices + tensor_stages * Block::a_slice;
  GatherRow* rows = reinterpret_cast<GatherRow*>(b_slices + tensor_stages * Block::b_slice);
  const Gather g = gather_of<backward>(s, blockIdx.z);
  const int first_row = blockIdx.x * Block::rows, first_column = blockIdx.y * Block::columns;
  for (int i = threadIdx.x; i < Block::rows; i += Block::threads)
    rows[i] = GatherRow(g, s.batch, first_row + i);
  __syncthreads();

  Depth depth;  // of the slice that is copied next
  depth.advance(g, threadIdx.x % (tile_depth / vector) * vector);
  const auto copy_slice = [&](int step) {
    const int stage = step % tensor_stages;
    float* b_slice = b_slices + stage * Block::b_slice;
    Block::copy_a(g, rows, depth, a, a_slices + stage * Block::a_slice);
    if constexpr (backward) {
      Block::copy_b_along(g, depth, first_column, weight, b_slice);
    } else {
      Block::copy_b_across(g, step * tile_depth, first_column, weight, b_slice);
    }
    depth.advance(g, tile_depth);
  };

  const int steps = (g.products() + tile_depth - 1) / tile_depth;
  for (int step = 0; step < tensor_stages - 1; ++step) {
    if (step < steps) copy_slice(step);
    cp_async_commit();
  }
  WarpTile<64, 64> sums;
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<tensor_stages - 2>();
    __syncthreads();  // so the slice is there, and all have done with the one that is replaced
    if (step + tensor_stages - 1 < steps) copy_slice(step + tensor_stages - 1);
    cp_async_commit();
    const int stage = step % tensor_stages;
    Operand<64> a_part, b_part;
    a_part.read_along(a_slices + stage * Block::a_slice + Block::warp_row() * along_stride);
    if constexpr (backward) {
      b_part.read_along(b_slices + stage * Block::b_slice + Block::warp_column() * along_stride);
    } else {
      b_part.read_across(b_slices + stage * Block::b_slice + Block::warp_column(), Block::b_stride);
    }
    sums.multiply(a_part, b_part);
  }

  for (int j = 0; j < sums.rows_of_lane; ++j) {
    const int m = first_row + Block::warp_row() + lane_row(lane_of_warp(), j);
    if (m >= g.rows(s.batch)) continue;
    float* to = c + target_pixel(g, m) * g.columns;
    for (int q = 0; q < sums.runs_of_lane; ++q)
      Block::store(sums, j, q, first_column, g.columns, to);
  }
}

// ---- weight gradient ----

// dweight[(i, j, c), o] = sum over output pixels of x[pixel under (i, j), c] dy[pixel, o]: the
// depth of this product is the pixels, and slices of both lie across it.
template <int across, int vector>
struct TensorWeight : TensorBlock<across, vector> {
  using Block = TensorBlock<across, vector>;
  static constexpr int a_stride = across_stride(Block::rows);
  static constexpr int b_stride = across_stride(Block::columns);
  static constexpr int a_slice = tile_depth * a_stride, b_slice = tile_depth * b_stride;

  static constexpr int windows = tensor_stages * tile_depth;
  static constexpr std::size_t shared_bytes =
      tensor_stages * (a_slice + b_slice) * sizeof(float) + windows * sizeof(GatherRow);

  static __device__ void copy_a(const Gather& g, const GatherRow* windows_of_slice, int first_row,
                                const float* x, float* slice) {
    constexpr int together = Block::rows / vector;  // copies for one pixel
    constexpr int at_once = together < Block::threads ? together : Block::threads;
    for (int part = threadIdx.x % at_once; part < together; part += at_once) {
      const Depth tap = Depth::of(g, first_row + part * vector);
      for (int k = threadIdx.x / at_once; k < tile_depth; k += Block::threads / at_once) {
        const int pixel = windows_of_slice[k].pixel(g, tap);
        const float* from = pixel < 0 ? x : x + pixel * g.depth + tap.c;
        Block::copy(slice + k * a_stride + part * vector, from, pixel >= 0);
      }
    }
  }

  static __device__ void copy_b(int out, int first, int end, int first_column, const float* dy,
                                float* slice) {
    constexpr int together = Block::columns / vector;
    for (int i = threadIdx.x; i < tile_depth * together; i += Block::threads) {
      const int k = i / together, place = i % together * vector;
      const bool valid = first + k < end && first_column + place < out;
      const float* from = valid ? dy + (first + k) * out + first_column + place : dy;
      Block::copy(slice + k * b_stride + place, from, valid);
    }
  }
};

// blockIdx = (tile of (i, j, c), tile of o, piece)
template <int across, int vector>
__global__ void __launch_bounds__(64 * across)
    tensor_backward_weight(ConvShape s, Pieces pieces, const float* x, const float* dy,
                           float* sums_of_pieces) {
  using Block = TensorWeight<across, vector>;
  float* a_slices = dynamic_shared<float>();
  float* b_slices = a_slices + tensor_stages * Block::a_slice;
  GatherRow* windows = reinterpret_cast<GatherRow*>(b_slices + tensor_stages * Block::b_slice);
  const Gather g = gather_of<false>(s, 0);
  const int first_row = blockIdx.x * Block::rows, first_column = blockIdx.y * Block::columns;
  const int first = blockIdx.z * pieces.steps * tile_depth;
  const int end = min(first + pieces.steps * tile_depth, s.outputs());
  const int steps = (end - first + tile_depth - 1) / tile_depth;
  for (int i = threadIdx.x; i < Block::windows; i += Block::threads)
    windows[i] = GatherRow(g, s.batch, first + i);
  __syncthreads();

  const auto copy_slice = [&](int step) {
    const int stage = step % tensor_stages;
    Block::copy_a(g, windows + stage * tile_depth, first_row, x, a_slices + stage * Block::a_slice);
    Block::copy_b(s.out, first + step * tile_depth, end, first_column, dy,
                  b_slices + stage * Block::b_slice);
  };
  for (int step = 0; step < tensor_stages - 1; ++step) {
    if (step < steps) copy_slice(step);
    cp_async_commit();
  }
  WarpTile<64, 64> sums;
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<tensor_stages - 2>();
    __syncthreads();
    if (step + tensor_stages - 1 < steps) copy_slice(step + tensor_stages - 1);
    cp_async_commit();
    const int stage = step % tensor_stages;
    if (threadIdx.x < tile_depth) {  // the windows of this slice are no longer needed
      const int m = first + (step + tensor_stages) * tile_depth + threadIdx.x;
      windows[stage * tile_depth + threadIdx.x] = GatherRow(g, s.batch, m);
    }
    Operand<64> a_part, b_part;
    a_part.read_across(a_slices + stage * Block::a_slice + Block::warp_row(), Block::a_stride);
    b_part.read_across(b_slices + stage * Block::b_slice + Block::warp_column(), Block::b_stride);
    sums.multiply(a_part, b_part);
  }

  float* to = sums_of_pieces + static_cast<std::size_t>(blockIdx.z) * s.weights();
  for (int j = 0; j < sums.rows_of_lane; ++j) {
    const int row = first_row + Block::warp_row() + lane_row(lane_of_warp(), j);
    if (row >= s.taps() * s.in) continue;
    for (int q = 0; q < sums.runs_of_lane; ++q)
      Block::store(sums, j, q, first_column, s.out, to + row * s.out);
  }
}

// ---- launchers ----

inline bool copies_of_four(const ConvShape& s) {
  return s.in % 4 == 0 && s.out % 4 == 0;
}

// Whether tiles of 128 x 128 are still enough for all multiprocessors.
inline bool wide_tiles_pay(int rows, int columns) {
  return columns > 64 && blocks_for(rows, 128) * blocks_for(columns, 128) >=
                             static_cast<unsigned>(multiprocessors());
}

template <int across, int vector, bool backward>
void launch_tensor_gather(const ConvShape& s, int rows, int columns, int phases, const float* a,
                          const float* weight, float* c) {
  using Block = TensorGather<across, vector, backward>;
  const dim3 grid(blocks_for(rows, Block::rows), blocks_for(columns, Block::columns), phases);
  launch(tensor_gather<across, vector, backward>, grid, Block::threads, Block::shared_bytes, s, a,
         weight, c);
}

template <bool backward>
void conv2d_tensor_gather(const ConvShape& s, int rows, int columns, int phases, const float* a,
                          const float* weight, float* c) {
  if (!copies_of_four(s)) {
    launch_tensor_gather<1, 1, backward>(s, rows, columns, phases, a, weight, c);
  } else if (wide_tiles_pay(rows * phases, columns)) {
    launch_tensor_gather<2, 4, backward>(s, rows, columns, phases, a, weight, c);
  } else {
    launch_tensor_gather<1, 4, backward>(s, rows, columns, phases, a, weight, c);
  }
}

inline void conv2d_tensor_forward(const Conv2dSizes& sizes, const float* x, const float* weight,
                                  float* y) {
  const ConvShape s = conv_shape(sizes);
  conv2d_tensor_gather<false>(s, s.outputs(), s.out, 1, x, weight, y);
}

inline void conv2d_tensor_backward_input(const Conv2dSizes& sizes, const float* dy,
                                         const float* weight, float* dx) {
  const ConvShape s = conv_shape(sizes);
  conv2d_tensor_gather<true>(s, largest_phase(s), s.in,
                             phases(s.height, s.stride) * phases(s.width, s.stride), dy, weight,
                             dx);
}

template <int across, int vector>
void launch_tensor_backward_weight(const ConvShape& s, const float* x, const float* dy,
                                   float* dweight) {
  using Block = TensorWeight<across, vector>;
  dim3 grid(blocks_for(s.taps() * s.in, Block::rows), blocks_for(s.out, Block::columns));
  const int steps = (s.outputs() + tile_depth - 1) / tile_depth, least = 8;
  const Pieces pieces = split_sum(steps, static_cast<int>(grid.x * grid.y), least);
  grid.z = pieces.count;
  Workspace workspace;
  float* sums =
      pieces.count == 1 ? dweight : workspace.take<float>(pieces.count * Index(s.weights()));
  launch(tensor_backward_weight<across, vector>, grid, Block::threads, Block::shared_bytes, s,
         pieces, x, dy, sums);
  if (pieces.count > 1) sum_pieces(pieces.count, s.weights(), sums, dweight);
}

inline void conv2d_tensor_backward_weight(const Conv2dSizes& sizes, const float* x, const float* dy,
                                          float* dweight) {
  const ConvShape s = conv_shape(sizes);
  if (!copies_of_four(s)) {
    launch_tensor_backward_weight<1, 1>(s, x, dy, dweight);
  } else if (s.out > 64) {
    launch_tensor_backward_weight<2, 4>(s, x, dy, dweight);
  } else {
    launch_tensor_backward_weight<1, 4>(s, x, dy, dweight);
  }
}

}  // namespace chalk::cuda
