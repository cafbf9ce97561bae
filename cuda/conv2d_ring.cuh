// Convolution, the weight gradient of 3x3 kernels with stride 1 and padding 1:
//   dweight[i, j, c, o] = sum over pixels m of x[m + (i - 1, j - 1), c] dy[m, o]
//
// All nine taps need the same pixels of x and dy, so a block computes all nine, of 32 channels of x
// and 64 of dy, while it walks along the pixels. It has the pixels of x around the present ones in
// a ring in shared memory, which each of them enters once, and those of dy in three stages.
//
// Pixels are counted with one of zeros behind every row of an image and a row of zeros behind every
// image. So pixel m + (i - 1, j - 1) is (i - 1) (width + 1) + j - 1 away from pixel m, and what
// lies beyond an edge is zero without being asked for; that takes 1 / width more steps.
#pragma once

#include <bit>

#include "cuda/conv2d_shape.h"
#include "cuda/sum_pieces.cuh"
#include "cuda/tile.cuh"
#include "cuda/workspace.h"

namespace chalk::cuda {

constexpr int ring_stages = 3, ring_threads = 192, ring_in = 32, ring_out = 64;

// How far a tap reaches, in counted pixels, and how many there are in all images.
__host__ __device__ inline int ring_halo(const ConvShape& s) {
  return s.width + 2;
}
__host__ __device__ inline int counted_pixels(const ConvShape& s) {
  return s.batch * (s.height + 1) * (s.width + 1);
}

// A power of two, so that a pixel's place is quickly found: room for the pixels that a step reads
// and for those that arrive. The first 16 are behind the end once more, so that what a lane reads
// in a step lies at fixed distances from the first.
inline int ring_size(const ConvShape& s) {
  const int needed = 2 * ring_halo(s) + ring_stages * tile_depth;
  return static_cast<int>(std::bit_ceil(static_cast<unsigned>(needed)));
}

// A counted pixel that moves along.
struct CountedPixel {
  int n, h, w;

  __device__ CountedPixel(const ConvShape& s, int number)
      : n(number / (s.width + 1) / (s.height + 1)),
        h(number / (s.width + 1) % (s.height + 1)),
        w(number % (s.width + 1)) {
    if (number < 0) n = s.batch;  // before the first there is none, as behind the last
  }
  __device__ void advance(const ConvShape& s, int pixels) {
    for (w += pixels; w > s.width; w -= s.width + 1) {
      if (++h > s.height) {
        h = 0;
        ++n;
      }
    }
  }
  // Which pixel of the images it is, -1 for one of the zeros.
  __device__ int real(const ConvShape& s) const {
    return n < s.batch && h < s.height && w < s.width ? (n * s.height + h) * s.width + w : -1;
  }
};

// Starts the copy of four channels of a pixel, zeros where there is no such.
__device__ inline void copy_channels(int pixel, int channel, int channels, const float* images,
                                     float* to) {
  const bool exists = pixel >= 0 && channel < channels;
  cp_async16(to, images + (exists ? pixel * channels + channel : 0), exists);
}

// The copies of a block, by all its threads: of each step 16 pixels of x and 16 of dy.
struct RingCopies {
  static constexpr int x_fours = ring_in / 4, x_threads = tile_depth * x_fours;
  static constexpr int dy_fours = ring_out / 4, dy_threads = ring_threads / tile_depth;
  static constexpr int x_stride = across_stride(ring_in), dy_stride = across_stride(ring_out);
  static constexpr int dy_floats = tile_depth * dy_stride;

  const ConvShape& s;
  int c0, o0, mask, number, stage = 0;
  CountedPixel x_pixel, dy_pixel;  // that this thread copies next; the one of x has this number

  __device__ RingCopies(const ConvShape& shape, int ring, int first)
      : s(shape),
        c0(static_cast<int>(blockIdx.x) * ring_in),
        o0(static_cast<int>(blockIdx.y) * ring_out),
        mask(ring - 1),
        number(first + ring_halo(s) + static_cast<int>(threadIdx.x) / x_fours),
        x_pixel(s, number),
        dy_pixel(s, first + static_cast<int>(threadIdx.x) / dy_threads) {}

  __device__ void copy_x(int pixel, int counted, int c, const float* x, float* ring) const {
    const int place = counted & mask;
    float* to = ring + place * x_stride + c;
    copy_channels(pixel, c0 + c, s.in, x, to);
    if (place < tile_depth) copy_channels(pixel, c0 + c, s.in, x, to + (mask + 1) * x_stride);
  }
  // The pixels of x around the first step's.
  __device__ void begin(int first, const float* x, float* ring) const {
    for (int i = static_cast<int>(threadIdx.x); i < 2 * ring_halo(s) * x_fours; i += ring_threads) {
      const int at = first - ring_halo(s) + i / x_fours;
      copy_x(CountedPixel(s, at).real(s), at, i % x_fours * 4, x, ring);
    }
  }
  // The pixels of dy of the next step, and the last ones of x.
  __device__ void next(const float* x, float* ring, const float* dy, float* stages) {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < x_threads) copy_x(x_pixel.real(s), number, thread % x_fours * 4, x, ring);
    const int pixel = dy_pixel.real(s);
    float* to = stages + stage * dy_floats + thread / dy_threads * dy_stride;
#pragma unroll
    for (int n = 0; n < (dy_fours + dy_threads - 1) / dy_threads; ++n) {
      const int four = n * dy_threads + thread % dy_threads;
      if (four < dy_fours) copy_channels(pixel, o0 + four * 4, s.out, dy, to + four * 4);
    }
    number += tile_depth;
    stage = (stage + 1) % ring_stages;
    x_pixel.advance(s, tile_depth);
    dy_pixel.advance(s, tile_depth);
  }
};

// Writes the 32 x 32 numbers of one tap from (c0, o0) on to `to` [in, out].
__device__ inline void store_weights(const ConvShape& s, WarpTile<32, 32>& tile, int c0, int o0,
                                     float* to) {
#pragma unroll
  for (int j = 0; j < tile.rows_of_lane; ++j) {
    const int c = c0 + lane_row(lane_of_warp(), j);
    if (c >= s.in) continue;
#pragma unroll
    for (int q = 0; q < tile.runs_of_lane; ++q) {
      const int o = o0 + lane_column(lane_of_warp(), q);
      if (o < s.out) *reinterpret_cast<float4*>(to + c * s.out + o) = tile.run(j, q);
    }
  }
}

// blockIdx = (32 channels of x, 64 of dy, piece); the sums of a piece are a whole weight. A warp
// has one row of the kernel and 32 channels of dy.
__global__ void __launch_bounds__(ring_threads)
    ring_kernel(ConvShape s, Pieces pieces, int ring_pixels, const float* x, const float* dy,
                float* sums_of_pieces) {
  float* ring = dynamic_shared<float>();
  float* stages = ring + (ring_pixels + tile_depth) * RingCopies::x_stride;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = lane_of_warp();
  const int tap_row = warp / 2, o_half = warp % 2 * 32;
  const int piece = static_cast<int>(blockIdx.z), first = piece * pieces.steps * tile_depth;
  const int left = (counted_pixels(s) - first + tile_depth - 1) / tile_depth;
  const int steps = min(pieces.steps, left);

  RingCopies copies(s, ring_pixels, first);
  copies.begin(first, x, ring);
  for (int step = 0; step < ring_stages - 1; ++step) {
    if (step < steps) copies.next(x, ring, dy, stages);
    cp_async_commit();
  }
  WarpTile<32, 32> sums[3];
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<ring_stages - 2>();
    __syncthreads();  // the step is there, and all have done with what is replaced
    if (step + ring_stages - 1 < steps) copies.next(x, ring, dy, stages);
    cp_async_commit();
    Operand<32> b;
    b.read_across(stages + step % ring_stages * RingCopies::dy_floats + o_half,
                  RingCopies::dy_stride);
    const int pixel = first + step * tile_depth + (tap_row - 1) * (s.width + 1) - 1 + lane % 4;
    const float* pixels = ring + (pixel & copies.mask) * RingCopies::x_stride + lane / 4 * 4;
#pragma unroll
    for (int tap = 0; tap < 3; ++tap) {
      Operand<32> a;
#pragma unroll
      for (int q = 0; q < 4; ++q)
        a.read_four_rows(q, 0, pixels + (tap + q * 4) * RingCopies::x_stride);
      sums[tap].multiply(a, b);
    }
  }
  float* to = sums_of_pieces + (piece * 3 + tap_row) * 3 * s.in * s.out;
#pragma unroll
  for (int tap = 0; tap < 3; ++tap)
    store_weights(s, sums[tap], copies.c0, copies.o0 + o_half, to + tap * s.in * s.out);
}

inline std::size_t ring_bytes(const ConvShape& s) {
  return sizeof(float) *
         ((ring_size(s) + tile_depth) * RingCopies::x_stride + ring_stages * RingCopies::dy_floats);
}

inline bool ring_fits(const Conv2dSizes& sizes) {
  return sizes.kernel_height == 3 && sizes.kernel_width == 3 && sizes.stride == 1 &&
         sizes.padding == 1 && sizes.groups == 1 && sizes.in_channels % 4 == 0 &&
         sizes.out_channels % 4 == 0 && ring_bytes(conv_shape(sizes)) <= shared_memory_of_block();
}

// For shapes that ring_fits(), see conv2d.h.
inline void conv2d_ring_backward_weight(const Conv2dSizes& sizes, const float* x, const float* dy,
                                        float* dweight) {
  const ConvShape s = conv_shape(sizes);
  const int steps = (counted_pixels(s) + tile_depth - 1) / tile_depth, least = 8;
  dim3 grid(blocks_for(s.in, ring_in), blocks_for(s.out, ring_out));
  const Pieces pieces = split_sum(steps, static_cast<int>(grid.x * grid.y), least);
  grid.z = static_cast<unsigned>(pieces.count);
  Workspace workspace;
  float* sums = pieces.count == 1
                    ? dweight
                    : workspace.take<float>(to_int(Index{pieces.count} * s.weights()));
  launch(ring_kernel, grid, ring_threads, ring_bytes(s), s, pieces, ring_size(s), x, dy, sums);
  if (pieces.count > 1) sum_pieces(pieces.count, s.weights(), sums, dweight);
}

}  // namespace chalk::cuda
