// Depthwise convolution: every channel is its own group, so there is no sum over channels and no
// matrix product. The work is bound by memory: a thread has four neighbouring channels (one, if
// they are not a multiple of four) of one pixel, so that a warp reads and writes whole lines.
#pragma once

#include "cuda/columns.cuh"
#include "cuda/conv2d_shape.h"
#include "cuda/sum_pieces.cuh"

namespace chalk::cuda {

inline bool is_depthwise(const Conv2dSizes& s) {
  return s.groups == s.in_channels && s.groups == s.out_channels;
}

template <typename T, int n>
__device__ void add_product(Pack<T, n>& sum, const Pack<T, n>& a, const Pack<T, n>& b) {
  for (int i = 0; i < n; ++i)
    sum.at[i] += a.at[i] * b.at[i];
}

// y[n, h, w, c] = sum over i, j of x[n, h stride + i - padding, w stride + j - padding, c]
//                                  * weight[i, j, c]
template <typename T, int n>
__global__ void depthwise_forward(ConvShape s, const T* x, const T* weight, T* y) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x, packs = s.in / n;
  if (at >= s.outputs() * packs) return;
  const Pixel pixel(at / packs, s.out_height, s.out_width);
  const int c = at % packs;
  Pack<T, n> sum = {};
  for (int i = 0; i < s.kernel_height; ++i) {
    for (int j = 0; j < s.kernel_width; ++j) {
      const int row = pixel.h * s.stride + i - s.padding;
      const int column = pixel.w * s.stride + j - s.padding;
      if (!inside(row, s.height) || !inside(column, s.width)) continue;
      const int from = (pixel.n * s.height + row) * s.width + column;
      add_product(sum, load<n>(x, from * packs + c),
                  load<n>(weight, (i * s.kernel_width + j) * packs + c));
    }
  }
  store(y, at, sum);
}

// dx[n, row, column, c] = sum over the i, j, h, w with h stride + i - padding = row and
//                         w stride + j - padding = column of  dy[n, h, w, c] weight[i, j, c]
template <typename T, int n>
__global__ void depthwise_backward_input(ConvShape s, const T* dy, const T* weight, T* dx) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x, packs = s.in / n;
  if (at >= s.inputs() * packs) return;
  const Pixel pixel(at / packs, s.height, s.width);
  const int c = at % packs, bottom = pixel.h + s.padding, right = pixel.w + s.padding;
  Pack<T, n> sum = {};
  for (int i = bottom % s.stride; i < s.kernel_height; i += s.stride) {
    for (int j = right % s.stride; j < s.kernel_width; j += s.stride) {
      const int h = (bottom - i) / s.stride, w = (right - j) / s.stride;
      if (i > bottom || j > right || h >= s.out_height || w >= s.out_width) continue;
      const int from = (pixel.n * s.out_height + h) * s.out_width + w;
      add_product(sum, load<n>(dy, from * packs + c),
                  load<n>(weight, (i * s.kernel_width + j) * packs + c));
    }
  }
  store(dx, at, sum);
}

// sums[piece, i, j, c] = sum over the piece's output pixels of
//     x[n, h stride + i - padding, w stride + j - padding, c] * dy[n, h, w, c]
// blockIdx.y = piece
template <typename T, int n>
__global__ void depthwise_backward_weight(ConvShape s, Pieces pieces, const T* x, const T* dy,
                                          T* sums) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x, packs = s.in / n;
  if (at >= s.taps() * packs) return;
  const int c = at % packs, tap = at / packs;
  const int i = tap / s.kernel_width - s.padding, j = tap % s.kernel_width - s.padding;
  const int first = blockIdx.y * pieces.steps, end = min(first + pieces.steps, s.outputs());
  Pack<T, n> sum = {};
  for (int m = first; m < end; ++m) {
    const Pixel pixel(m, s.out_height, s.out_width);
    const int row = pixel.h * s.stride + i, column = pixel.w * s.stride + j;
    if (!inside(row, s.height) || !inside(column, s.width)) continue;
    const int from = (pixel.n * s.height + row) * s.width + column;
    add_product(sum, load<n>(x, from * packs + c), load<n>(dy, m * packs + c));
  }
  store(sums + static_cast<std::size_t>(blockIdx.y) * s.weights(), at, sum);
}

template <typename T>
void conv2d_depthwise_forward(const Conv2dSizes& sizes, const T* x, const T* weight, T* y) {
  const ConvShape s = conv_shape(sizes);
  const int n = in_packs(s.in) ? 4 : 1;
  launch(n == 4 ? depthwise_forward<T, 4> : depthwise_forward<T, 1>,
         blocks_for(s.outputs() * (s.in / n), 256), 256, 0, s, x, weight, y);
}

template <typename T>
void conv2d_depthwise_backward_input(const Conv2dSizes& sizes, const T* dy, const T* weight,
                                     T* dx) {
  const ConvShape s = conv_shape(sizes);
  const int n = in_packs(s.in) ? 4 : 1;
  launch(n == 4 ? depthwise_backward_input<T, 4> : depthwise_backward_input<T, 1>,
         blocks_for(s.inputs() * (s.in / n), 256), 256, 0, s, dy, weight, dx);
}

template <typename T>
void conv2d_depthwise_backward_weight(const Conv2dSizes& sizes, const T* x, const T* dy,
                                      T* dweight) {
  const ConvShape s = conv_shape(sizes);
  const int n = in_packs(s.in) ? 4 : 1, least = 16;
  dim3 grid(blocks_for(s.taps() * (s.in / n), 256));
  const Pieces pieces = split_sum(s.outputs(), static_cast<int>(grid.x), least);
  grid.y = pieces.count;
  Workspace workspace;
  T* sums = pieces.count == 1 ? dweight : workspace.take<T>(pieces.count * Index(s.weights()));
  launch(n == 4 ? depthwise_backward_weight<T, 4> : depthwise_backward_weight<T, 1>, grid, 256, 0,
         s, pieces, x, dy, sums);
  if (pieces.count > 1) sum_pieces(pieces.count, s.weights(), sums, dweight);
}

}  // namespace chalk::cuda
