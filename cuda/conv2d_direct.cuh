// Convolution, first rung: the definition, a thread for each element of the result. Every other
// rung is held equal to it; it alone does every shape, groups and empty sums among them.
//
//   x: input, y: output, weight; dx, dy, dweight: their gradients; n: image, (h, w): output pixel,
//   (i, j): position in the kernel, c: input channel within its group, o: output channel
//
// Neighbouring threads have neighbouring channels, so that what they write, and the weights or the
// dy that they read, are neighbours in memory: one access of 128 bytes serves a warp.
#pragma once

#include "cuda/conv2d_shape.h"

namespace chalk::cuda {

// y[n, h, w, o] = sum over i, j, c of x[n, h stride + i - padding, w stride + j - padding, c]
//                                     * weight[i, j, c, o]
template <typename T>
__global__ void direct_forward(ConvShape s, const T* x, const T* weight, T* y) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= s.outputs() * s.out) return;
  const Pixel pixel(at / s.out, s.out_height, s.out_width);
  const int o = at % s.out, in = s.in / s.groups, first = o / (s.out / s.groups) * in;
  T sum = 0;
  for (int i = 0; i < s.kernel_height; ++i) {
    for (int j = 0; j < s.kernel_width; ++j) {
      const int row = pixel.h * s.stride + i - s.padding;
      const int column = pixel.w * s.stride + j - s.padding;
      if (!inside(row, s.height) || !inside(column, s.width)) continue;
      const T* from = x + ((pixel.n * s.height + row) * s.width + column) * s.in + first;
      const T* tap = weight + (i * s.kernel_width + j) * in * s.out + o;
      for (int c = 0; c < in; ++c)
        sum += from[c] * tap[c * s.out];
    }
  }
  y[at] = sum;
}

// dx[n, row, column, c] = sum over the i, j, o, h, w with h stride + i - padding = row and
//                         w stride + j - padding = column of  dy[n, h, w, o] weight[i, j, c, o]
template <typename T>
__global__ void direct_backward_input(ConvShape s, const T* dy, const T* weight, T* dx) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= s.inputs() * s.in) return;
  const Pixel pixel(at / s.in, s.height, s.width);
  const int in = s.in / s.groups, out = s.out / s.groups;
  const int c = at % s.in % in, first = at % s.in / in * out;
  T sum = 0;
  for (int i = 0; i < s.kernel_height; ++i) {
    for (int j = 0; j < s.kernel_width; ++j) {
      const int row = pixel.h + s.padding - i, column = pixel.w + s.padding - j;
      const int h = row / s.stride, w = column / s.stride;
      if (row < 0 || row % s.stride != 0 || h >= s.out_height) continue;
      if (column < 0 || column % s.stride != 0 || w >= s.out_width) continue;
      const T* from = dy + ((pixel.n * s.out_height + h) * s.out_width + w) * s.out + first;
      const T* tap = weight + ((i * s.kernel_width + j) * in + c) * s.out + first;
      for (int o = 0; o < out; ++o)
        sum += from[o] * tap[o];
    }
  }
  dx[at] = sum;
}

// dweight[i, j, c, o] = sum over n, h, w of
//     x[n, h stride + i - padding, w stride + j - padding, c] * dy[n, h, w, o]
template <typename T>
__global__ void direct_backward_weight(ConvShape s, const T* x, const T* dy, T* dweight) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= s.weights()) return;
  const int in = s.in / s.groups, o = at % s.out, c = at / s.out % in;
  const int tap = at / s.out / in, i = tap / s.kernel_width, j = tap % s.kernel_width;
  const int channel = o / (s.out / s.groups) * in + c;
  T sum = 0;
  for (int n = 0; n < s.batch; ++n) {
    for (int h = 0; h < s.out_height; ++h) {
      const int row = h * s.stride + i - s.padding;
      if (!inside(row, s.height)) continue;
      for (int w = 0; w < s.out_width; ++w) {
        const int column = w * s.stride + j - s.padding;
        if (!inside(column, s.width)) continue;
        sum += x[((n * s.height + row) * s.width + column) * s.in + channel] *
               dy[((n * s.out_height + h) * s.out_width + w) * s.out + o];
      }
    }
  }
  dweight[at] = sum;
}

template <typename T>
void conv2d_direct_forward(const Conv2dSizes& sizes, const T* x, const T* weight, T* y) {
  const ConvShape s = conv_shape(sizes);
  launch(direct_forward<T>, blocks_for(s.outputs() * s.out, 256), 256, 0, s, x, weight, y);
}

template <typename T>
void conv2d_direct_backward_input(const Conv2dSizes& sizes, const T* dy, const T* weight, T* dx) {
  const ConvShape s = conv_shape(sizes);
  launch(direct_backward_input<T>, blocks_for(s.inputs() * s.in, 256), 256, 0, s, dy, weight, dx);
}

template <typename T>
void conv2d_direct_backward_weight(const Conv2dSizes& sizes, const T* x, const T* dy, T* dweight) {
  const ConvShape s = conv_shape(sizes);
  launch(direct_backward_weight<T>, blocks_for(s.weights(), 256), 256, 0, s, x, dy, dweight);
}

}  // namespace chalk::cuda
