// Convolution, fifth rung: where the stride is 1 and y as large as x, the taps of the kernel share
// what the rung before brings in for each of them anew.
//
// Number the pixels of all images one after another. Then tap (i, j) of pixel m reads pixel
//   m + (i - padding) width + (j - padding),
// so a block that has `rows` consecutive pixels of y needs one patch of x, `halo` pixels longer on
// both sides, and each tap reads it at another offset. It has 16 channels of it at a time, for all
// taps; the patch of the next 16 arrives meanwhile, and the weights, 16 channels of one tap to a
// step, travel as in conv2d_tensor.cuh. Beyond the edges of its image a tap reads zeros: for each
// of its rows a lane keeps a word with a bit for each tap that is inside.
//
// The input gradient is the same convolution of dy with the kernel turned by 180 degrees and its
// two axes of channels exchanged.
#pragma once

#include <utility>

#include "cuda/conv2d_shape.h"
#include "cuda/sum_pieces.cuh"
#include "cuda/tile.cuh"
#include "cuda/workspace.h"

namespace chalk::cuda {

constexpr int patch_stages = 4;  // steps whose weights are in shared memory

// What follows from the shape. s.in: channels that are summed over, s.out: those of the result.
struct PatchSizes {
  int halo, rows, floats;    // of a patch
  int count, ahead, slices;  // patches in shared memory; how far ahead they are copied, in so many
                             // steps: of a 1x1 kernel each step has a patch of its own

  __host__ __device__ PatchSizes(const ConvShape& s, int block_rows)
      : halo(s.padding * (s.width + 1)),
        rows(block_rows + 2 * halo),
        floats(rows * along_stride),
        count(s.taps() == 1 ? patch_stages : 2),
        ahead(count - 1),
        slices(s.taps() == 1 ? 1 : s.taps() - patch_stages + 1) {}
};

// A block of row_warps x column_warps warps, of which each has 64 x 64 of the result.
template <int row_warps, int column_warps, bool turned>
struct PatchBlock {
  static constexpr int threads = 32 * row_warps * column_warps;
  static constexpr int rows = 64 * row_warps, columns = 64 * column_warps;
  static constexpr int weight_stride = turned ? along_stride : across_stride(columns);
  static constexpr int weight_floats = (turned ? columns : tile_depth) * weight_stride;

  static std::size_t shared_bytes(const ConvShape& s) {
    const PatchSizes sizes(s, rows);
    return sizeof(float) * (sizes.count * sizes.floats + patch_stages * weight_floats + 4);
  }

  // Starts the copy of every slices-th part of a patch, channels c0 .. c0 + 15. Four threads copy
  // a pixel.
  static __device__ void copy_patch(const ConvShape& s, const PatchSizes& sizes, int c0, int slice,
                                    int slices, const float* x, float* to) {
    const int first = static_cast<int>(blockIdx.x) * rows - sizes.halo;
    const int c = static_cast<int>(threadIdx.x) % 4 * 4;
    for (int row = slice * (threads / 4) + static_cast<int>(threadIdx.x) / 4; row < sizes.rows;
         row += slices * (threads / 4)) {
      const bool exists = inside(first + row, s.inputs()) && c0 + c < s.in;
      const float* from = exists ? x + (first + row) * s.in + c0 + c : x;
      cp_async16(to + row * along_stride + c, from, exists);
    }
  }

  // Starts the copy of weight[tap, c0 .. c0 + 15, columns of the block]. Turned, the kernel is
  // read from its end, and is [taps, out, in].
  static __device__ void copy_weight(const ConvShape& s, int tap, int c0, const float* weight,
                                     float* to) {
    constexpr int together = turned ? tile_depth / 4 : columns / 4;
    constexpr int copies = tile_depth * columns / 4 / threads;  // a thread
    const int first = static_cast<int>(blockIdx.y) * columns;
#pragma unroll
    for (int n = 0; n < copies; ++n) {
      const int i = n * threads + static_cast<int>(threadIdx.x);
      const int c = turned ? i % together * 4 : i / together;
      const int o = turned ? i / together : i % together * 4;
      const bool exists = c0 + c < s.in && first + o < s.out;
      const int at = turned ? ((s.taps() - 1 - tap) * s.out + first + o) * s.in + c0 + c
                            : (tap * s.in + c0 + c) * s.out + first + o;
      const int place = turned ? o * weight_stride + c : across_slot(c) * weight_stride + o;
      cp_async16(to + place, exists ? weight + at : weight, exists);
    }
  }
};

// A step: 16 channels, a chunk, of one tap. All taps of a chunk come before the next chunk.
struct PatchStep {
  int chunk, tap = 0, column = 0, shift = 0;  // shift: from a pixel's row in the patch

  __device__ void advance(const ConvShape& s) {
    ++tap;
    ++shift;
    if (++column == s.kernel_width) {
      column = 0;
      shift += s.width - s.kernel_width;
    }
    if (tap == s.taps()) *this = {chunk + 1};
  }
};

// Bit i * kernel_width + j: whether tap (i, j) of pixel m lies in the pixel's image.
__device__ inline unsigned taps_inside(const ConvShape& s, int m) {
  if (m >= s.inputs()) return 0;
  const Pixel pixel(m, s.height, s.width);
  unsigned bits = 0;
  for (int i = s.kernel_height - 1; i >= 0; --i)
    for (int j = s.kernel_width - 1; j >= 0; --j)
      bits = bits << 1 | (inside(pixel.h + i - s.padding, s.height) &&
                          inside(pixel.w + j - s.padding, s.width));
  return bits;
}

// Writes 64 pixels from m on and 64 channels from o on, as far as y has them.
__device__ inline void store_pixels(const ConvShape& s, WarpTile<64, 64>& tile, int m, int o,
                                    float* y) {
#pragma unroll
  for (int j = 0; j < tile.rows_of_lane; ++j) {
    const int pixel = m + lane_row(lane_of_warp(), j);
    if (pixel >= s.outputs()) continue;
#pragma unroll
    for (int q = 0; q < tile.runs_of_lane; ++q) {
      const int column = o + lane_column(lane_of_warp(), q);
      if (column < s.out) *reinterpret_cast<float4*>(y + pixel * s.out + column) = tile.run(j, q);
    }
  }
}

// blockIdx = (tile of pixels, tile of channels, part): each of `parts` parts sums over its share of
// the chunks, and writes a y of its own.
template <int row_warps, int column_warps, bool turned>
__global__ void __launch_bounds__(32 * row_warps * column_warps)
    patch_kernel(ConvShape s, int parts, const float* x, const float* weight, float* y) {
  using Block = PatchBlock<row_warps, column_warps, turned>;
  const PatchSizes sizes(s, Block::rows);
  float* patches = dynamic_shared<float>();
  float* weights = patches + sizes.count * sizes.floats;
  float* zeros = weights + patch_stages * Block::weight_floats;
  if (threadIdx.x < 4) zeros[threadIdx.x] = 0;

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = lane_of_warp();
  const int warp_row = warp % row_warps * 64, warp_column = warp / row_warps * 64;
  const int m = static_cast<int>(blockIdx.x) * Block::rows + warp_row;
  unsigned valid[8];
#pragma unroll
  for (int j = 0; j < 8; ++j)
    valid[j] = taps_inside(s, m + lane_row(lane, j));

  const int chunks = (s.in + tile_depth - 1) / tile_depth, part = static_cast<int>(blockIdx.z);
  const int begin = chunks * part / parts, end = chunks * (part + 1) / parts;
  const auto copy_patch = [&](int chunk, int slice, int slices) {
    if (chunk < end)
      Block::copy_patch(s, sizes, chunk * tile_depth, slice, slices, x,
                        patches + chunk % sizes.count * sizes.floats);
  };
  PatchStep next{begin};  // the one whose weights are copied next
  const auto copy_weight = [&](int stage) {
    if (next.chunk < end)
      Block::copy_weight(s, next.tap, next.chunk * tile_depth, weight,
                         weights + stage % patch_stages * Block::weight_floats);
    next.advance(s);
  };
  for (int stage = 0; stage < patch_stages - 1; ++stage) {
    if (stage < sizes.ahead) copy_patch(begin + stage, 0, 1);
    copy_weight(stage);
    cp_async_commit();
  }

  WarpTile<64, 64> sums;
  int stage = 0;
  for (PatchStep step{begin}; step.chunk < end; step.advance(s), ++stage) {
    cp_async_wait<patch_stages - 2>();
    __syncthreads();  // the step is there, and all have done with what is replaced
    copy_weight(stage + patch_stages - 1);
    if (step.tap < sizes.slices) copy_patch(step.chunk + sizes.ahead, step.tap, sizes.slices);
    cp_async_commit();

    Operand<64> a, b;
    const float* pixels =
        patches + step.chunk % sizes.count * sizes.floats + (warp_row + step.shift) * along_stride;
#pragma unroll
    for (int j = 0; j < 8; ++j)
      a.read_row(j, valid[j] >> step.tap & 1 ? pixels + along_place(lane, j) : zeros);
    const float* now = weights + stage % patch_stages * Block::weight_floats;
    if constexpr (turned)
      b.read_along(now + warp_column * along_stride);
    else
      b.read_across(now + warp_column, Block::weight_stride);
    sums.multiply(a, b);
  }
  const int o = static_cast<int>(blockIdx.y) * Block::columns + warp_column;
  store_pixels(s, sums, m, o, y + part * s.outputs() * s.out);
}

// ---- launchers ----

template <int row_warps, int column_warps, bool turned>
void launch_patch(const ConvShape& s, int parts, const float* x, const float* weight, float* y) {
  using Block = PatchBlock<row_warps, column_warps, turned>;
  const dim3 grid(blocks_for(s.outputs(), Block::rows), blocks_for(s.out, Block::columns), parts);
  launch(patch_kernel<row_warps, column_warps, turned>, grid, Block::threads,
         Block::shared_bytes(s), s, parts, x, weight, y);
}

// The way to cut the work into blocks with which the busiest multiprocessor is done first. It takes
// its blocks one after another, a step of a warp being the unit; a part costs about 12 of them
// more, for writing its sums and reading them again.
struct PatchPlan {
  int row_warps = 0, column_warps = 0, parts = 0, cost = 0;

  template <int rows, int columns, bool turned>
  void consider(const ConvShape& s) {
    using Block = PatchBlock<rows, columns, turned>;
    if (Block::shared_bytes(s) > shared_memory_of_block()) return;
    const int chunks = (s.in + tile_depth - 1) / tile_depth;
    const int tiles =
        static_cast<int>(blocks_for(s.outputs(), Block::rows) * blocks_for(s.out, Block::columns));
    for (int n = 1; n <= std::min(8, chunks); n *= 2) {
      const int rounds = (tiles * n + multiprocessors() - 1) / multiprocessors();
      const int steps = (chunks + n - 1) / n * s.taps() + (n > 1 ? 12 : 0);
      const int expected = rounds * rows * columns * steps;
      if (parts == 0 || expected < cost) *this = {rows, columns, n, expected};
    }
  }

  template <bool turned>
  static PatchPlan best(const ConvShape& s) {
    PatchPlan plan;
    plan.consider<4, 1, turned>(s);
    plan.consider<2, 2, turned>(s);
    plan.consider<2, 1, turned>(s);
    return plan;
  }
};

inline bool patch_fits(const Conv2dSizes& sizes) {
  const bool same = sizes.stride == 1 && sizes.groups == 1 && sizes.kernel_height <= 5 &&
                    sizes.kernel_height == sizes.kernel_width &&
                    sizes.kernel_height == 2 * sizes.padding + 1;
  if (!same || sizes.in_channels % 4 != 0 || sizes.out_channels % 4 != 0) return false;
  return PatchBlock<2, 1, true>::shared_bytes(conv_shape(sizes)) <= shared_memory_of_block();
}

template <bool turned>
void conv2d_patch(const ConvShape& s, const float* x, const float* weight, float* y) {
  const PatchPlan plan = PatchPlan::best<turned>(s);
  const auto launch_tile = plan.row_warps == 4      ? launch_patch<4, 1, turned>
                           : plan.column_warps == 2 ? launch_patch<2, 2, turned>
                                                    : launch_patch<2, 1, turned>;
  if (plan.parts == 1) return launch_tile(s, 1, x, weight, y);
  const int count = s.outputs() * s.out;
  Workspace workspace;
  float* parts = workspace.take<float>(to_int(Index{plan.parts} * count));
  launch_tile(s, plan.parts, x, weight, parts);
  sum_pieces(plan.parts, count, parts, y);
}

// The passes, see conv2d.h, for shapes that patch_fits().
inline void conv2d_patch_forward(const Conv2dSizes& sizes, const float* x, const float* weight,
                                 float* y) {
  conv2d_patch<false>(conv_shape(sizes), x, weight, y);
}

inline void conv2d_patch_backward_input(const Conv2dSizes& sizes, const float* dy,
                                        const float* weight, float* dx) {
  ConvShape s = conv_shape(sizes);
  std::swap(s.in, s.out);
  conv2d_patch<true>(s, dy, weight, dx);
}

}  // namespace chalk::cuda
