// Depthwise convolution: every channel is its own group, so there is no sum over channels and no
// matrix product. The work is bound by memory: a thread has four neighbouring channels (one, if
// they are not a multiple of four) of one pixel, so that a warp reads and writes whole lines.
#pragma once

#include "cuda/conv2d_shape.h"
#include "cuda/sum_pieces.cuh"
#include "cuda/workspace.h"

namespace chalk::cuda {

inline bool is_depthwise(const Conv2dSizes& s) {
  return s.groups == s.in_channels && s.groups == s.out_channels;
}

// Neighbouring channels of a pixel, read and written together.
template <typename T, int count>
struct alignas(count == 1 ? sizeof(T) : 16) Channels {
  T values[count] = {};

  static __device__ const Channels& at(const T* from) {
    return *reinterpret_cast<const Channels*>(from);
  }
  __device__ void store(T* to) const { *reinterpret_cast<Channels*>(to) = *this; }

  __device__ void add_product(const Channels& a, const Channels& b) {
    for (int i = 0; i < count; ++i)
      values[i] += a.values[i] * b.values[i];
  }
};

// y[n, h, w, c] = sum over i, j of x[n, h stride + i - padding, w stride + j - padding, c]
//                                  * weight[i, j, c]
template <typename T, int count>
__global__ void depthwise_forward(ConvShape s, const T* x, const T* weight, T* y) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x, parts = s.in / count;
  if (at >= s.outputs() * parts) return;
  const Pixel pixel(at / parts, s.out_height, s.out_width);
  const int c = at % parts * count;
  Channels<T, count> sum;
  for (int i = 0; i < s.kernel_height; ++i) {
    for (int j = 0; j < s.kernel_width; ++j) {
      const int row = pixel.h * s.stride + i - s.padding;
      const int column = pixel.w * s.stride + j - s.padding;
      if (!inside(row, s.height) || !inside(column, s.width)) continue;
      const int from = (pixel.n * s.height + row) * s.width + column;
      sum.add_product(Channels<T, count>::at(x + from * s.in + c),
                      Channels<T, count>::at(weight + (i * s.kernel_width + j) * s.in + c));
    }
  }
  sum.store(y + at * count);
}

// dx[n, row, column, c] = sum over the i, j, h, w with h stride + i - padding = row and
//                         w stride + j - padding = column of  dy[n, h, w, c] weight[i, j, c]
template <typename T, int count>
__global__ void depthwise_backward_input(ConvShape s, const T* dy, const T* weight, T* dx) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x, parts = s.in / count;
  if (at >= s.inputs() * parts) return;
  const Pixel pixel(at / parts, s.height, s.width);
  const int c = at % parts * count, bottom = pixel.h + s.padding, right = pixel.w + s.padding;
  Channels<T, count> sum;
  for (int i = bottom % s.stride; i < s.kernel_height; i += s.stride) {
    for (int j = right % s.stride; j < s.kernel_width; j += s.stride) {
      const int h = (bottom - i) / s.stride, w = (right - j) / s.stride;
      if (i > bottom || j > right || h >= s.out_height || w >= s.out_width) continue;
      const int from = (pixel.n * s.out_height + h) * s.out_width + w;
      sum.add_product(Channels<T, count>::at(dy + from * s.in + c),
                      Channels<T, count>::at(weight + (i * s.kernel_width + j) * s.in + c));
    }
  }
  sum.store(dx + at * count);
}

// sums[piece, i, j, c] = sum over the piece's output pixels of
//     x[n, h stride + i - padding, w stride + j - padding, c] * dy[n, h, w, c]
// blockIdx.y = piece
template <typename T, int count>
__global__ void depthwise_backward_weight(ConvShape s, Pieces pieces, const T* x, const T* dy,
                                          T* sums) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x, parts = s.in / count;
  if (at >= s.taps() * parts) return;
  const int c = at % parts * count, tap = at / parts;
  const int i = tap / s.kernel_width - s.padding, j = tap % s.kernel_width - s.padding;
  const int first = blockIdx.y * pieces.steps, end = min(first + pieces.steps, s.outputs());
  Channels<T, count> sum;
  for (int m = first; m < end; ++m) {
    const Pixel pixel(m, s.out_height, s.out_width);
    const int row = pixel.h * s.stride + i, column = pixel.w * s.stride + j;
    if (!inside(row, s.height) || !inside(column, s.width)) continue;
    const int from = (pixel.n * s.height + row) * s.width + column;
    sum.add_product(Channels<T, count>::at(x + from * s.in + c),
                    Channels<T, count>::at(dy + m * s.in + c));
  }
  sum.store(sums + static_cast<std::size_t>(blockIdx.y) * s.weights() + at * count);
}

inline bool four_channels_fit(const ConvShape& s) {
  return s.in % 4 == 0;
}

template <typename T>
void conv2d_depthwise_forward(const Conv2dSizes& sizes, const T* x, const T* weight, T* y) {
  const ConvShape s = conv_shape(sizes);
  const int count = four_channels_fit(s) ? 4 : 1;
  launch(count == 4 ? depthwise_forward<T, 4> : depthwise_forward<T, 1>,
         blocks_for(s.outputs() * (s.in / count), 256), 256, 0, s, x, weight, y);
}

template <typename T>
void conv2d_depthwise_backward_input(const Conv2dSizes& sizes, const T* dy, const T* weight,
                                     T* dx) {
  const ConvShape s = conv_shape(sizes);
  const int count = four_channels_fit(s) ? 4 : 1;
  launch(count == 4 ? depthwise_backward_input<T, 4> : depthwise_backward_input<T, 1>,
         blocks_for(s.inputs() * (s.in / count), 256), 256, 0, s, dy, weight, dx);
}

template <typename T>
void conv2d_depthwise_backward_weight(const Conv2dSizes& sizes, const T* x, const T* dy,
                                      T* dweight) {
  const ConvShape s = conv_shape(sizes);
  const int count = four_channels_fit(s) ? 4 : 1, least = 16;
  dim3 grid(blocks_for(s.taps() * (s.in / count), 256));
  const Pieces pieces = split_sum(s.outputs(), static_cast<int>(grid.x), least);
  grid.y = pieces.count;
  Workspace workspace;
  T* sums = pieces.count == 1 ? dweight : workspace.take<T>(pieces.count * Index(s.weights()));
  launch(count == 4 ? depthwise_backward_weight<T, 4> : depthwise_backward_weight<T, 1>, grid, 256,
         0, s, pieces, x, dy, sums);
  if (pieces.count > 1) sum_pieces(pieces.count, s.weights(), sums, dweight);
}

}  // namespace chalk::cuda
