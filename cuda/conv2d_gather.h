// The matrix product that forward pass and input gradient both are, without the matrix of patches:
//
//   C[n, r, q, :] = sum over a, b of A[n, row(r, a), column(q, b), :] W[tap(a), tap(b)]
//
// with A = x and C = y for the one, with A = dy, C = dx and every W transposed for the other. Rows
// and columns of the images follow the same rules, an Axis each.
//
// With a stride, an input pixel lies only under some of the taps; the rows of dx with the same rest
// h % stride share them. So the input gradient has stride * stride phases, each a convolution of
// its own, with stride 1: for 3x3 with stride 2 they have 1, 2, 2 and 4 of the 9 taps.
#pragma once

#include "cuda/conv2d_shape.h"

namespace chalk::cuda {

struct Axis {
  int rows, first, every, all;          // r < rows is row first + r every of the `all` of C
  int size, start, row_step, tap_step;  // row(r, a) = start + r row_step + a tap_step, of `size`
  int taps, first_tap, every_tap;       // tap(a) = first_tap + a every_tap, a < taps
};

// y's row h takes tap i from x's row h stride + i - padding.
__device__ inline Axis forward_axis(int size, int out_size, int kernel, int stride, int padding) {
  return {out_size, 0, 1, out_size, size, -padding, stride, 1, kernel, 0, 1};
}

// dx's row phase + r stride takes tap i from dy's row (phase + r stride + padding - i) / stride, if
// that is whole: so i = first_tap + a stride.
__device__ inline Axis backward_axis(int phase, int size, int out_size, int kernel, int stride,
                                     int padding) {
  const int first_tap = (phase + padding) % stride, start = (phase + padding) / stride;
  const int taps = (max(kernel - first_tap, 0) + stride - 1) / stride;
  const int rows = (size - phase + stride - 1) / stride;
  return {rows, phase, stride, size, out_size, start, 1, -1, taps, first_tap, stride};
}

// The phases of an axis, none of them empty.
__host__ __device__ inline int phases(int size, int stride) {
  return size < stride ? size : stride;
}

// How many pixels of dx the largest phase, the first, has.
inline int largest_phase(const ConvShape& s) {
  return s.batch * ((s.height + s.stride - 1) / s.stride) * ((s.width + s.stride - 1) / s.stride);
}

struct Gather {
  Axis vertical, horizontal;
  int kernel_width, depth, columns;  // depth: channels of A, columns: channels of C

  __device__ int rows(int batch) const { return batch * vertical.rows * horizontal.rows; }
  __device__ int products() const { return vertical.taps * horizontal.taps * depth; }
};

// The forward pass, which has one phase, or the input gradient in one of its phases.
template <bool backward>
__device__ Gather gather_of(const ConvShape& s, int phase) {
  if constexpr (backward) {
    const int across = phases(s.width, s.stride);
    const Axis vertical =
        backward_axis(phase / across, s.height, s.out_height, s.kernel_height, s.stride, s.padding);
    const Axis horizontal =
        backward_axis(phase % across, s.width, s.out_width, s.kernel_width, s.stride, s.padding);
    return {vertical, horizontal, s.kernel_width, s.out, s.in};
  } else {
    const Axis vertical =
        forward_axis(s.height, s.out_height, s.kernel_height, s.stride, s.padding);
    const Axis horizontal = forward_axis(s.width, s.out_width, s.kernel_width, s.stride, s.padding);
    return {vertical, horizontal, s.kernel_width, s.in, s.out};
  }
}

// The depths of the product are all (a, b, c), in this order; c is a channel of A.
struct Depth {
  int a = 0, b = 0, c = 0;

  // Number k of those of a forward pass.
  static __device__ Depth of(const Gather& g, int k) {
    const int tap = k / g.depth;
    return {tap / g.horizontal.taps, tap % g.horizontal.taps, k % g.depth};
  }

  // Returns whether that leads to another tap.
  __device__ bool advance(const Gather& g, int by) {
    c += by;
    if (c < g.depth) return false;
    do {
      c -= g.depth;
      if (++b == g.horizontal.taps) b = 0, ++a;
    } while (c >= g.depth);
    return true;
  }
  __device__ bool exists(const Gather& g) const { return a < g.vertical.taps; }
  __device__ int tap(const Gather& g) const {
    return (g.vertical.first_tap + a * g.vertical.every_tap) * g.kernel_width +
           g.horizontal.first_tap + b * g.horizontal.every_tap;
  }
};

// Row m of the product: under its tap (0, 0) lies (row, column) of the image of A that begins at
// pixel `image`.
struct alignas(16) GatherRow {
  int image, row, column;

  __device__ GatherRow(const Gather& g, int batch, int m)
      : GatherRow(g, batch, Pixel(m, g.vertical.rows, g.horizontal.rows)) {}

  __device__ GatherRow(const Gather& g, int batch, const Pixel& pixel) {
    constexpr int nowhere = -(1 << 30);  // no tap moves it onto the image
    image = pixel.n * g.vertical.size * g.horizontal.size;
    row = pixel.n < batch ? g.vertical.start + pixel.h * g.vertical.row_step : nowhere;
    column = g.horizontal.start + pixel.w * g.horizontal.row_step;
  }

  // The pixel of A that the row meets at this depth, -1 if there is none.
  __device__ int pixel(const Gather& g, const Depth& k) const {
    const int y = row + k.a * g.vertical.tap_step, x = column + k.b * g.horizontal.tap_step;
    const bool on_image = inside(y, g.vertical.size) && inside(x, g.horizontal.size);
    return on_image && k.exists(g) ? image + y * g.horizontal.size + x : -1;
  }
};

// The pixel of C that row m of the product goes to; m < rows.
__device__ inline int target_pixel(const Gather& g, int m) {
  const Pixel pixel(m, g.vertical.rows, g.horizontal.rows);
  return (pixel.n * g.vertical.all + g.vertical.first + pixel.h * g.vertical.every) *
             g.horizontal.all +
         g.horizontal.first + pixel.w * g.horizontal.every;
}

}  // namespace chalk::cuda
