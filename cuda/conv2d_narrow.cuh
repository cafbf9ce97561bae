// Convolution of few channels, as in a network's first layer (7x7 with stride 2, from 3), by tensor
// cores. The implicit product of conv2d_tensor.cuh copies a number of x once for each tap it lies
// under; here, since channels are last, the numbers under a row of the kernel lie one after the
// other, and the next pixel's begin stride * in further on. So rows of x are copied to shared
// memory as they are, and the matrix of patches overlaps itself there:
//
//   A[(h, w), (i, d)] = row[h stride + i][w stride in + d]        d < kernel_width * in
//
// For each i the depths d are padded to a multiple of 8, half of a step; what x has there does not
// belong to the sum and is replaced by zero (times a weight of zero a NaN would stay).
//
// A block walks down an image. The rows of x that the next outputs need besides arrive in a ring
// while it multiplies.
#pragma once

#include "cuda/conv2d_shape.h"
#include "cuda/sum_pieces.cuh"
#include "cuda/tile.cuh"
#include "cuda/workspace.h"

namespace chalk::cuda {

// Row r of a block's part of x, counted from the first that it needs, lies in the ring at
// r % count. It is row top + r of the image, from number `left` on, with zeros beside the image.
struct RowRing {
  float* rows;
  int count, length;
  const float* image;
  int top, left;

  __device__ float* row(int r) const { return rows + r % count * length; }

  __device__ void copy(int r, const ConvShape& s) const {
    const int y = top + r, width = s.width * s.in;
    float* to = row(r);
    for (int i = threadIdx.x; i < length; i += blockDim.x) {
      const bool valid = inside(y, s.height) && inside(left + i, width);
      cp_async4(to + i, valid ? image + y * width + left + i : image, valid);
    }
  }
};

// What both kernels derive from the shape.
struct Narrow {
  int step, line;   // numbers from a pixel's window to the next one's; numbers under a kernel's row
  int halves;       // halves of steps for a row of the kernel
  int length;       // of a row in the ring
  int rows;         // in the ring
  int across;       // forward: segments of 64 pixels in a row of a tile
  int parts, each;  // blocks for an image, or a segment of it, and each one's rows, or tiles
  int blocks;
  Index bytes;  // of shared memory

  __host__ __device__ int padded_line() const { return halves * 8; }
};

constexpr int narrow_columns = 64, narrow_stages = 4;
constexpr int narrow_stride = across_stride(narrow_columns);

// ---- forward pass: a tile of 4 warps is two rows of 128 pixels, or four of 64 ----

// Where the slice of weights has depth d = 0 .. 15 of a step: so that lane t's are the depths 2 t
// and 2 t + 1 of the first half and then of the second. A's it reads two at a time, and with
// windows 6 numbers apart no two lanes meet in a bank.
__device__ inline int narrow_slot(int d) {
  return (d / 8 * 2 + d % 2) * 4 + d % 8 / 2;
}

// All weights, for 64 outputs: [(i, d), o], a step's 16 depths after the other.
__device__ inline void copy_narrow_weights(const ConvShape& s, const Narrow& shape, int steps,
                                           int first_column, const float* weight, float* to) {
  for (int i = threadIdx.x; i < steps * tile_depth * narrow_columns; i += blockDim.x) {
    const int depth = i / narrow_columns, column = i % narrow_columns;
    const int row = depth / shape.padded_line(), d = depth % shape.padded_line();
    const bool valid = row < s.kernel_height && d < shape.line && first_column + column < s.out;
    const int from = (row * shape.line + d) * s.out + first_column + column;
    const int slot = depth / tile_depth * tile_depth + narrow_slot(depth % tile_depth);
    cp_async4(to + slot * narrow_stride + column, valid ? weight + from : weight, valid);
  }
}

// blockIdx = (image, segment of its columns and part of its rows; tile of columns)
__global__ void __launch_bounds__(128)
    narrow_forward(ConvShape s, Narrow shape, const float* x, const float* weight, float* y) {
  const int halves = s.kernel_height * shape.halves, steps = (halves + 1) / 2;
  float* weights = dynamic_shared<float>();  // [steps][16][narrow_stride]
  const int tile_rows = 4 / shape.across, tile_columns = 64 * shape.across;
  const int first_column = blockIdx.y * narrow_columns;
  const int segments = (s.out_width + tile_columns - 1) / tile_columns;
  const int part = blockIdx.x % shape.parts, segment = blockIdx.x / shape.parts % segments;
  const int n = blockIdx.x / shape.parts / segments, first_row = part * shape.each * tile_rows;
  const int tiles = min(shape.each, (s.out_height - first_row + tile_rows - 1) / tile_rows);
  const RowRing ring{weights + steps * tile_depth * narrow_stride,
                     shape.rows,
                     shape.length,
                     x + n * s.height * s.width * s.in,
                     first_row * s.stride - s.padding,
                     segment * tile_columns * shape.step - s.padding * s.in};
  const int needed = (tile_rows - 1) * s.stride + s.kernel_height;

  copy_narrow_weights(s, shape, steps, first_column, weight, weights);
  for (int r = 0; r < needed; ++r)
    ring.copy(r, s);
  cp_async_commit();
  const int lane = lane_of_warp(), warp = threadIdx.x / 32, my_row = warp / shape.across;
  const int my_column = warp % shape.across * 64;
  for (int tile = 0; tile < tiles; ++tile) {
    const int first = tile * tile_rows * s.stride, next = first + tile_rows * s.stride;
    if (tile + 1 < tiles) {
      for (int r = first + needed; r < next + needed; ++r)
        ring.copy(r, s);
    }
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    WarpTile<64, 64> sums;
    int i = 0, d = 0;  // of the half step
    for (int step = 0; step < steps; ++step) {
      Operand<64> a, b;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const bool exists = i < s.kernel_height;
        const float* from = ring.row(first + my_row * s.stride + (exists ? i : 0)) +
                            my_column * shape.step + d + lane % 4 * 2;
        const int left = exists ? shape.line - d - lane % 4 * 2 : 0;  // depths of the row from here
#pragma unroll
        for (int j = 0; j < a.rows_of_lane; ++j) {
          const float2 two =
              *reinterpret_cast<const float2*>(from + lane_row(lane, j) * shape.step);
          a.values[j][2 * h] = to_tf32(left > 0 ? two.x : 0);
          a.values[j][2 * h + 1] = to_tf32(left > 1 ? two.y : 0);
        }
        d += 8;
        if (d == shape.padded_line()) d = 0, ++i;
      }
      b.read_across(weights + step * tile_depth * narrow_stride, narrow_stride);
      sums.multiply(a, b);
    }
    const int h = first_row + tile * tile_rows + my_row;
    for (int j = 0; j < sums.rows_of_lane; ++j) {
      const int w = segment * tile_columns + my_column + lane_row(lane, j);
      if (h >= s.out_height || w >= s.out_width) continue;
      float* to = y + ((n * s.out_height + h) * s.out_width + w) * s.out;
      for (int q = 0; q < sums.runs_of_lane; ++q) {
        const int column = first_column + lane_column(lane, q);
        if (column < s.out) *reinterpret_cast<float4*>(to + column) = sums.run(j, q);
      }
    }
    __syncthreads();  // before the rows are replaced
  }
}

// ---- weight gradient ----

// dweight[(i, d), o] = sum over the pixels (h, w) of row[h stride + i][w stride in + d] dy[(h, w),
// o]. A warp has 32 of the rows (i, d); all step through the rows of dy, 16 pixels at a time.
// blockIdx = (piece: image and part of its rows; tile of columns)
__global__ void __launch_bounds__(256)
    narrow_backward_weight(ConvShape s, Narrow shape, const float* x, const float* dy,
                           float* sums_of_pieces) {
  constexpr int stages = narrow_stages, slice = tile_depth * narrow_stride;
  float* slices = dynamic_shared<float>();  // [stages][16][narrow_stride] of dy
  const int part = blockIdx.x % shape.parts, n = blockIdx.x / shape.parts;
  const int first_row = part * shape.each, first_column = blockIdx.y * narrow_columns;
  const int chunks = (s.out_width + tile_depth - 1) / tile_depth;
  const int steps = min(shape.each, s.out_height - first_row) * chunks;
  const RowRing ring{slices + stages * slice,
                     shape.rows,
                     shape.length,
                     x + n * s.height * s.width * s.in,
                     first_row * s.stride - s.padding,
                     -s.padding * s.in};

  // The 16 pixels of dy, and with the first of a row the rows of x that are not there yet.
  const auto copy_step = [&](int stage, int row, int chunk) {
    const int last = row * s.stride + s.kernel_height;
    for (int r = row == 0 ? 0 : last - s.stride; chunk == 0 && r < last; ++r)
      ring.copy(r, s);
    const float* from = dy + (n * s.out_height + first_row + row) * s.out_width * s.out;
    for (int i = threadIdx.x; i < tile_depth * narrow_columns / 4; i += blockDim.x) {
      const int k = i / (narrow_columns / 4), column = i % (narrow_columns / 4) * 4;
      const int w = chunk * tile_depth + k;
      const bool valid = w < s.out_width && first_column + column < s.out;
      cp_async16(slices + stage * slice + k * narrow_stride + column,
                 valid ? from + w * s.out + first_column + column : dy, valid);
    }
  };
  int next_row = 0, next_chunk = 0;  // of the step that is copied next
  const auto copy_next = [&](int step) {
    if (step < steps) copy_step(step % stages, next_row, next_chunk);
    if (++next_chunk == chunks) next_chunk = 0, ++next_row;
    cp_async_commit();
  };
  for (int step = 0; step < stages - 1; ++step)
    copy_next(step);
  const int lane = lane_of_warp(), rows = s.kernel_height * shape.line;
  const int warp_row = threadIdx.x / 32 * 32;
  WarpTile<32, 64> sums;
  const float* from[4];  // what the lane's rows read of the present row of dy
  int row = 0, chunk = 0;
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<stages - 2>();
    __syncthreads();
    copy_next(step + stages - 1);
    Operand<32> a;
#pragma unroll
    for (int j = 0; j < a.rows_of_lane; ++j) {
      const int my_row = min(warp_row + lane_row(lane, j), rows - 1);
      if (chunk == 0)
        from[j] = ring.row(row * s.stride + my_row / shape.line) + my_row % shape.line;
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        const int w = chunk * tile_depth + 4 * q + lane % 4;
        a.values[j][q] = to_tf32(w < s.out_width ? from[j][w * shape.step] : 0);
      }
    }
    if (++chunk == chunks) chunk = 0, ++row;
    Operand<64> b;
    b.read_across(slices + step % stages * slice, narrow_stride);
    sums.multiply(a, b);
  }
  float* to = sums_of_pieces + static_cast<std::size_t>(blockIdx.x) * rows * s.out;
  for (int j = 0; j < sums.rows_of_lane; ++j) {
    const int my_row = warp_row + lane_row(lane, j);
    for (int q = 0; q < sums.runs_of_lane; ++q) {
      const int column = first_column + lane_column(lane, q);
      if (my_row < rows && column < s.out)
        *reinterpret_cast<float4*>(to + my_row * s.out + column) = sums.run(j, q);
    }
  }
}

// ---- launchers ----

// Of `all` rows (or tiles) of an image as many for a block that `images` images fill a large GPU.
inline Narrow narrow_shape(const ConvShape& s, int images, int all) {
  Narrow shape{};
  shape.step = s.stride * s.in;
  shape.line = s.kernel_width * s.in;
  shape.halves = (shape.line + 7) / 8;
  const Pieces pieces = split_sum(all, images, 1);
  shape.parts = pieces.count;
  shape.each = pieces.steps;
  return shape;
}

inline Narrow narrow_forward_shape(const ConvShape& s) {
  const int across = s.out_width > 64 ? 2 : 1, tile_rows = 4 / across, columns = 64 * across;
  const int segments = (s.out_width + columns - 1) / columns;
  Narrow shape = narrow_shape(s, s.batch * segments, (s.out_height + tile_rows - 1) / tile_rows);
  shape.across = across;
  shape.blocks = s.batch * segments * shape.parts;
  shape.length = (columns - 1) * shape.step + shape.padded_line();
  shape.rows = (2 * tile_rows - 1) * s.stride + s.kernel_height;
  const int steps = (s.kernel_height * shape.halves + 1) / 2;
  shape.bytes = 4 * (Index{steps} * tile_depth * narrow_stride + Index{shape.rows} * shape.length);
  return shape;
}

inline Narrow narrow_weight_shape(const ConvShape& s) {
  Narrow shape = narrow_shape(s, s.batch, s.out_height);
  const int chunks = (s.out_width + tile_depth - 1) / tile_depth;
  const int rows_ahead = (narrow_stages - 1 + chunks - 1) / chunks;
  shape.blocks = s.batch * shape.parts;
  shape.length = (chunks * tile_depth - 1) * shape.step + shape.padded_line();
  shape.rows = rows_ahead * s.stride + s.kernel_height;
  shape.bytes = 4 * (narrow_stages * tile_depth * narrow_stride + Index{shape.rows} * shape.length);
  return shape;
}

// Pairs of A's numbers must begin at even ones, and runs of y and dy at multiples of 4.
inline bool narrow_fits(const Conv2dSizes& sizes) {
  if (sizes.groups > 1 || sizes.in_channels > 3 || sizes.stride * sizes.in_channels % 2 != 0)
    return false;
  constexpr int most_rows = 256, most_bytes = 99 << 10;
  const ConvShape s = conv_shape(sizes);
  return s.out % 4 == 0 && s.taps() * s.in <= most_rows &&
         narrow_forward_shape(s).bytes <= most_bytes && narrow_weight_shape(s).bytes <= most_bytes;
}

inline void conv2d_narrow_forward(const Conv2dSizes& sizes, const float* x, const float* weight,
                                  float* y) {
  const ConvShape s = conv_shape(sizes);
  const Narrow shape = narrow_forward_shape(s);
  const dim3 grid(shape.blocks, blocks_for(s.out, narrow_columns));
  launch(narrow_forward, grid, 128, shape.bytes, s, shape, x, weight, y);
}

inline void conv2d_narrow_backward_weight(const Conv2dSizes& sizes, const float* x, const float* dy,
                                          float* dweight) {
  const ConvShape s = conv_shape(sizes);
  const Narrow shape = narrow_weight_shape(s);
  const dim3 grid(shape.blocks, blocks_for(s.out, narrow_columns));
  const unsigned threads = 32 * blocks_for(s.taps() * s.in, 32);
  Workspace workspace;
  float* sums =
      shape.blocks == 1 ? dweight : workspace.take<float>(Index(shape.blocks) * s.weights());
  launch(narrow_backward_weight, grid, threads, shape.bytes, s, shape, x, dy, sums);
  if (shape.blocks > 1) sum_pieces(shape.blocks, s.weights(), sums, dweight);
}

}  // namespace chalk::cuda
