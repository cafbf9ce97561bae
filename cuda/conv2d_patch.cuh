// Convolution, fifth rung: where the kernel is 3x3, with stride 1 and padding 1, its nine taps
// share what the rung before brings in for each of them anew.
//
// Number the pixels of all images one after another. Then tap (i, j) of pixel m reads pixel
//   m + (i - 1) width + (j - 1),
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

constexpr int patch_taps = 9;
constexpr int patch_stages = 3;                          // steps whose weights are in shared memory
constexpr int patch_slices = patch_taps - patch_stages;  // steps that copy the next patch

// How far a tap reaches, in pixels.
__host__ __device__ inline int patch_halo(const ConvShape& s) {
  return s.width + 1;
}

// A block of row_warps x column_warps warps, of which each has 32 x 64 of the result. Its sums take
// 64 registers of a lane, so 16 warps are on a multiprocessor at once, four for each scheduler: one
// can multiply while others read shared memory or wait.
template <int row_warps, int column_warps, bool turned>
struct PatchBlock {
  static constexpr int threads = 32 * row_warps * column_warps;
  static constexpr int at_once = 512 / threads;  // blocks on a multiprocessor
  static constexpr int rows = 32 * row_warps, columns = 64 * column_warps;
  static constexpr int weight_stride = turned ? along_stride : across_stride(columns);
  static constexpr int weight_floats = (turned ? columns : tile_depth) * weight_stride;

  static __host__ __device__ int patch_floats(const ConvShape& s) {
    return (rows + 2 * patch_halo(s)) * along_stride;
  }
  static std::size_t shared_bytes(const ConvShape& s) {
    return sizeof(float) * (2 * patch_floats(s) + patch_stages * weight_floats + 4);
  }

  // Starts the copy of every slices-th part of a patch, channels c0 .. c0 + 15. Four threads copy
  // a pixel.
  static __device__ void copy_patch(const ConvShape& s, int c0, int slice, int slices,
                                    const float* x, float* to) {
    constexpr int pixels = threads / 4;  // at once
    const int c = static_cast<int>(threadIdx.x) % 4 * 4;
    const int row = slice * pixels + static_cast<int>(threadIdx.x) / 4;
    const int first = static_cast<int>(blockIdx.x) * rows - patch_halo(s);
    to += row * along_stride + c;
    for (int pixel = first + row; pixel < first + rows + 2 * patch_halo(s);
         pixel += slices * pixels) {
      const bool exists = inside(pixel, s.inputs()) && c0 + c < s.in;
      cp_async16(to, x + (exists ? pixel * s.in + c0 + c : 0), exists);
      to += slices * pixels * along_stride;
    }
  }

  // Starts the copy of weight[tap, c0 .. c0 + 15, columns of the block]. Turned, the kernel is
  // read from its end, and is [taps, out, in].
  static __device__ void copy_weight(const ConvShape& s, int tap, int c0, const float* weight,
                                     float* to) {
    constexpr int fours = turned ? tile_depth / 4 : columns / 4;  // that memory has together
    constexpr int lines = threads / fours, copies = tile_depth * columns / 4 / threads;
    const int four = static_cast<int>(threadIdx.x) % fours * 4;
    const int line = static_cast<int>(threadIdx.x) / fours;
    const int c = c0 + (turned ? four : line);
    const int o = static_cast<int>(blockIdx.y) * columns + (turned ? line : four);
    const int at =
        turned ? ((patch_taps - 1 - tap) * s.out + o) * s.in + c : (tap * s.in + c) * s.out + o;
    to += turned ? line * weight_stride + four : across_slot(line) * weight_stride + four;
#pragma unroll
    for (int n = 0; n < copies; ++n) {
      const bool exists =
          turned ? c < s.in && o + n * lines < s.out : c + n * lines < s.in && o < s.out;
      const int further = n * lines * (turned ? s.in : s.out);
      cp_async16(to + n * (turned ? lines : lines / 4) * weight_stride,
                 weight + (exists ? at + further : 0), exists);
    }
  }
};

// Bit 3 i + j: whether tap (i, j) of pixel m lies in the pixel's image.
__device__ inline unsigned taps_inside(const ConvShape& s, int m) {
  if (m >= s.inputs()) return 0;
  const Pixel pixel(m, s.height, s.width);
  unsigned bits = 0;
  for (int tap = 0; tap < patch_taps; ++tap)
    if (inside(pixel.h + tap / 3 - 1, s.height) && inside(pixel.w + tap % 3 - 1, s.width))
      bits |= 1u << tap;
  return bits;
}

// Writes 32 pixels from m on and 64 channels from o on, as far as y has them.
__device__ inline void store_pixels(const ConvShape& s, WarpTile<32, 64>& tile, int m, int o,
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
__global__ void __launch_bounds__(PatchBlock<row_warps, column_warps, turned>::threads,
                                  PatchBlock<row_warps, column_warps, turned>::at_once)
    patch_kernel(ConvShape s, int parts, const float* x, const float* weight, float* y) {
  using Block = PatchBlock<row_warps, column_warps, turned>;
  const int patch_floats = Block::patch_floats(s);
  float* patches = dynamic_shared<float>();
  float* weights = patches + 2 * patch_floats;
  float* zeros = weights + patch_stages * Block::weight_floats;
  if (threadIdx.x < 4) zeros[threadIdx.x] = 0;

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = lane_of_warp();
  const int warp_row = warp % row_warps * 32, warp_column = warp / row_warps * 64;
  const int m = static_cast<int>(blockIdx.x) * Block::rows + warp_row;
  unsigned valid[2] = {};  // bit 16 (j % 2) + tap of valid[j / 2] is of row j
#pragma unroll
  for (int j = 0; j < 4; ++j)
    valid[j / 2] |= taps_inside(s, m + lane_row(lane, j)) << j % 2 * 16;

  // A step is one tap of 16 channels, a chunk. All taps of a chunk come before the next chunk.
  const int chunks = (s.in + tile_depth - 1) / tile_depth, part = static_cast<int>(blockIdx.z);
  const int begin = chunks * part / parts * patch_taps;
  const int end = chunks * (part + 1) / parts * patch_taps;
  const auto copy_patch = [&](int chunk, int slice, int slices) {
    if (chunk * patch_taps < end)
      Block::copy_patch(s, chunk * tile_depth, slice, slices, x,
                        patches + chunk % 2 * patch_floats);
  };
  const auto copy_weight = [&](int step) {
    if (step < end)
      Block::copy_weight(s, step % patch_taps, step / patch_taps * tile_depth, weight,
                         weights + step % patch_stages * Block::weight_floats);
  };
  copy_patch(begin / patch_taps, 0, 1);
  for (int step = begin; step < begin + patch_stages - 1; ++step) {
    copy_weight(step);
    cp_async_commit();
  }

  WarpTile<32, 64> sums;
#pragma unroll 1
  for (int step = begin; step < end; ++step) {
    cp_async_wait<patch_stages - 2>();
    __syncthreads();  // the step is there, and all have done with what is replaced
    const int chunk = step / patch_taps, tap = step % patch_taps;
    copy_weight(step + patch_stages - 1);
    if (tap < patch_slices) copy_patch(chunk + 1, tap, patch_slices);
    cp_async_commit();

    Operand<32> a;
    Operand<64> b;
    const float* pixels = patches + chunk % 2 * patch_floats +
                          (warp_row + tap / 3 * s.width + tap % 3) * along_stride;
#pragma unroll
    for (int j = 0; j < 4; ++j)
      a.read_row(j, valid[j / 2] >> (j % 2 * 16 + tap) & 1 ? pixels + along_place(lane, j) : zeros);
    const float* now = weights + step % patch_stages * Block::weight_floats;
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
      const int steps = (chunks + n - 1) / n * patch_taps + (n > 1 ? 12 : 0);
      const int expected = rounds * rows * columns * steps;
      if (parts == 0 || expected < cost) *this = {rows, columns, n, expected};
    }
  }

  template <bool turned>
  static PatchPlan best(const ConvShape& s) {
    PatchPlan plan;
    plan.consider<8, 1, turned>(s);
    plan.consider<4, 2, turned>(s);
    plan.consider<4, 1, turned>(s);
    return plan;
  }
};

inline bool patch_fits(const Conv2dSizes& sizes) {
  return sizes.kernel_height == 3 && sizes.kernel_width == 3 && sizes.stride == 1 &&
         sizes.padding == 1 && sizes.groups == 1 && sizes.in_channels % 4 == 0 &&
         sizes.out_channels % 4 == 0 &&
         PatchBlock<4, 1, true>::shared_bytes(conv_shape(sizes)) <= shared_memory_of_block();
}

template <bool turned>
void conv2d_patch(const ConvShape& s, const float* x, const float* weight, float* y) {
  const PatchPlan plan = PatchPlan::best<turned>(s);
  const auto launch_tile = plan.row_warps == 8      ? launch_patch<8, 1, turned>
                           : plan.column_warps == 2 ? launch_patch<4, 2, turned>
                                                    : launch_patch<4, 1, turned>;
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
