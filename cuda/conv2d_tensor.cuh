// Convolution, fourth rung: the implicit matrix product of conv2d_tiled.cuh by tensor cores, in
// TF32. Two things change. A warp multiplies 64 x 64 numbers of the result at once (tile.cuh). And
// slices travel from memory to shared memory in the background: while the warps multiply one of
// four, the next three are on their way.
//
// What limits it is how much a block brings in: slices for 128 x 64 of the result are 12 KB for
// 131,072 products, those for 128 x 128, where there are enough channels, 16 KB for twice as many.
// But with 3x3 taps every number of x still comes 9 times, which conv2d_patch.cuh avoids.
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

// What a thread copies. Slices of A lie along the depth, as the channels of A do in memory; those
// of the weight too in the input gradient, in the forward pass across it. All copies of a thread
// have the same depth, so where the tap stays, the rows of A need not be looked up again.
template <int across, int vector, bool backward>
struct TensorGather : TensorBlock<across, vector> {
  using Block = TensorBlock<across, vector>;
  static constexpr int a_slice = Block::rows * along_stride;
  static constexpr int b_stride = backward ? along_stride : across_stride(Block::columns);
  static constexpr int b_slice = (backward ? Block::columns : tile_depth) * b_stride;
  static constexpr std::size_t shared_bytes =
      tensor_stages * (a_slice + b_slice) * sizeof(float) + Block::rows * sizeof(GatherRow);

  // Along: copies for a row, and the rows that the block copies at once. Across: for a depth.
  static constexpr int along = tile_depth / vector, rows_at_once = Block::threads / along;
  static constexpr int across_columns = Block::columns / vector;
  static constexpr int depths_at_once = Block::threads / across_columns;
  static constexpr int known_rows = vector == 4 ? Block::rows / rows_at_once : 1;

  const Gather& g;
  const GatherRow* table;
  const float *a, *weight;
  int first_column, my_row, my_place;
  Depth depth;
  int a_at[known_rows];  // the pixels that lie under the tap, -1 for none
  int b_at, b_left;      // the weights, and how many depths there are from here

  __device__ TensorGather(const Gather& gather, const GatherRow* gather_rows, const float* a_,
                          const float* weight_)
      : g(gather),
        table(gather_rows),
        a(a_),
        weight(weight_),
        first_column(blockIdx.y * Block::columns),
        my_row(threadIdx.x / along),
        my_place(threadIdx.x % along * vector) {
    depth.advance(g, my_place);
    if constexpr (!backward) {
      const int k = threadIdx.x / across_columns;
      b_at = k * g.columns + first_column + threadIdx.x % across_columns * vector;
      b_left = g.products() - k;
    }
    look_up();
  }

  __device__ int pixel_at(int i) const {
    const int pixel = table[my_row + i * rows_at_once].pixel(g, depth);
    return pixel < 0 ? -1 : pixel * g.depth;
  }

  __device__ void look_up() {
    if constexpr (vector == 4) {
#pragma unroll
      for (int i = 0; i < known_rows; ++i)
        a_at[i] = pixel_at(i);
    }
    if constexpr (backward) b_at = (depth.tap(g) * g.columns + first_column + my_row) * g.depth;
  }

  // Starts the copies of the next slices.
  __device__ void copy(float* a_to, float* b_to) {
    copy_a(a_to);
    if constexpr (backward)
      copy_b_along(b_to);
    else
      copy_b_across(b_to);
    if (depth.advance(g, tile_depth)) look_up();
  }

  __device__ void copy_a(float* to) const {
#pragma unroll
    for (int i = 0; i < Block::rows / rows_at_once; ++i) {
      const int at = vector == 4 ? a_at[i % known_rows] : pixel_at(i);
      Block::copy(to + (my_row + i * rows_at_once) * along_stride + my_place,
                  a + (at < 0 ? 0 : at + depth.c), at >= 0);
    }
  }

  // W[tap, column, depth]
  __device__ void copy_b_along(float* to) const {
    const bool exists = depth.exists(g);
#pragma unroll
    for (int i = 0; i < Block::columns / rows_at_once; ++i) {
      const int column = my_row + i * rows_at_once;
      const bool valid = exists && first_column + column < g.columns;
      const int at = b_at + i * rows_at_once * g.depth + depth.c;
      Block::copy(to + column * along_stride + my_place, weight + (valid ? at : 0), valid);
    }
  }

  // W[depth, column]: all taps, in their order.
  __device__ void copy_b_across(float* to) {
    const int k = threadIdx.x / across_columns, place = threadIdx.x % across_columns * vector;
#pragma unroll
    for (int i = 0; i < tile_depth / depths_at_once; ++i) {
      const bool valid = i * depths_at_once < b_left && first_column + place < g.columns;
      const int at = b_at + i * depths_at_once * g.columns;
      Block::copy(to + across_slot(k + i * depths_at_once) * b_stride + place,
                  weight + (valid ? at : 0), valid);
    }
    b_at += tile_depth * g.columns;
    b_left -= tile_depth;
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
  const int first_row = blockIdx.x * Block::rows;
  for (int i = threadIdx.x; i < Block::rows; i += Block::threads)
    rows[i] = GatherRow(g, s.batch, first_row + i);
  __syncthreads();

  Block copies(g, rows, a, weight);
  const auto copy_slice = [&](int step) {
    const int stage = step % tensor_stages;
    copies.copy(a_slices + stage * Block::a_slice, b_slices + stage * Block::b_slice);
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
      Block::store(sums, j, q, copies.first_column, g.columns, to);
  }
}

// ---- weight gradient ----

// dweight[(i, j, c), o] = sum over output pixels of x[pixel under (i, j), c] dy[pixel, o]: its rows
// are the forward pass's depths and its depths the forward pass's rows, here the windows. Slices of
// both operands lie across the depth. What a thread copies belongs to the same rows all along.
template <int across, int vector>
struct TensorWeight : TensorBlock<across, vector> {
  using Block = TensorBlock<across, vector>;
  static constexpr int a_stride = across_stride(Block::rows);
  static constexpr int b_stride = across_stride(Block::columns);
  static constexpr int a_slice = tile_depth * a_stride, b_slice = tile_depth * b_stride;
  static constexpr int windows = tensor_stages * tile_depth;
  static constexpr std::size_t shared_bytes =
      tensor_stages * (a_slice + b_slice) * sizeof(float) + windows * sizeof(GatherRow);

  // Copies for a pixel, those that the block does at once, and for how many pixels that is.
  static constexpr int a_copies = Block::rows / vector, b_copies = Block::columns / vector;
  static constexpr int a_at_once = a_copies < Block::threads ? a_copies : Block::threads;
  static constexpr int a_pixels = Block::threads / a_at_once;
  static constexpr int b_pixels = Block::threads / b_copies;
  static constexpr int known_taps = a_copies / a_at_once;

  const Gather& g;
  const float *x, *dy;
  Depth taps[known_taps];
  int b_at, b_left, b_place;  // dy's numbers, how many pixels there are from here, where they go
  bool b_exists;

  __device__ TensorWeight(const Gather& gather, int first, int end, const float* x_,
                          const float* dy_)
      : g(gather), x(x_), dy(dy_) {
    for (int i = 0; i < known_taps; ++i)
      taps[i] = Depth::of(
          g, blockIdx.x * Block::rows + (threadIdx.x % a_at_once + i * a_at_once) * vector);
    const int k = threadIdx.x / b_copies, column = threadIdx.x % b_copies * vector;
    const int o = blockIdx.y * Block::columns + column;
    b_at = (first + k) * g.columns + o;
    b_left = end - first - k;
    b_place = k * b_stride + column;
    b_exists = o < g.columns;
  }

  // Starts the copies of the next slices, which belong to these windows.
  __device__ void copy(const GatherRow* windows_of_slice, float* a_to, float* b_to) {
    const int k = threadIdx.x / a_at_once, place = threadIdx.x % a_at_once * vector;
#pragma unroll
    for (int p = 0; p < tile_depth; p += a_pixels) {
#pragma unroll
      for (int i = 0; i < known_taps; ++i) {
        const int pixel = windows_of_slice[k + p].pixel(g, taps[i]);
        Block::copy(a_to + (k + p) * a_stride + place + i * a_at_once * vector,
                    x + (pixel < 0 ? 0 : pixel * g.depth + taps[i].c), pixel >= 0);
      }
    }
#pragma unroll
    for (int p = 0; p < tile_depth; p += b_pixels) {
      const bool valid = p < b_left && b_exists;
      Block::copy(b_to + b_place + p * b_stride, dy + (valid ? b_at + p * g.columns : 0), valid);
    }
    b_at += tile_depth * g.columns;
    b_left -= tile_depth;
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
  const int first = blockIdx.z * pieces.steps * tile_depth;
  const int end = min(first + pieces.steps * tile_depth, s.outputs());
  const int steps = (end - first + tile_depth - 1) / tile_depth;
  for (int i = threadIdx.x; i < Block::windows; i += Block::threads)
    windows[i] = GatherRow(g, s.batch, first + i);
  Pixel next(first + Block::windows + threadIdx.x % tile_depth, s.out_height, s.out_width);
  __syncthreads();

  Block copies(g, first, end, x, dy);
  const auto copy_slice = [&](int step) {
    const int stage = step % tensor_stages;
    copies.copy(windows + stage * tile_depth, a_slices + stage * Block::a_slice,
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
      windows[stage * tile_depth + threadIdx.x] = GatherRow(g, s.batch, next);
      next.advance(tile_depth, s.out_height, s.out_width);
    }
    Operand<64> a_part, b_part;
    a_part.read_across(a_slices + stage * Block::a_slice + Block::warp_row(), Block::a_stride);
    b_part.read_across(b_slices + stage * Block::b_slice + Block::warp_column(), Block::b_stride);
    sums.multiply(a_part, b_part);
  }

  float* to = sums_of_pieces + static_cast<std::size_t>(blockIdx.z) * s.weights();
  for (int j = 0; j < sums.rows_of_lane; ++j) {
    const int row = blockIdx.x * Block::rows + Block::warp_row() + lane_row(lane_of_warp(), j);
    if (row >= s.taps() * s.in) continue;
    for (int q = 0; q < sums.runs_of_lane; ++q)
      Block::store(sums, j, q, blockIdx.y * Block::columns, s.out, to + row * s.out);
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
