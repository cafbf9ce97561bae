// What the kernels of convolution know of its shape.
#pragma once

#include <algorithm>

#include "autograd/shape.h"
#include "cuda/gpu.h"

namespace chalk::cuda {

// Conv2dSizes in int: x [batch, height, width, in], y [batch, out_height, out_width, out],
// weight [kernel_height, kernel_width, in / groups, out].
struct ConvShape {
  int batch, height, width, in;
  int kernel_height, kernel_width, out;
  int stride, padding, groups;
  int out_height, out_width;

  __host__ __device__ int inputs() const { return batch * height * width; }  // pixels
  __host__ __device__ int outputs() const { return batch * out_height * out_width; }
  __host__ __device__ int taps() const { return kernel_height * kernel_width; }
  __host__ __device__ int weights() const { return taps() * (in / groups) * out; }
};

// Throws Error where a tensor has too many elements for an int.
inline ConvShape conv_shape(const Conv2dSizes& s) {
  const Index out_height = std::max<Index>(0, s.out_height());
  const Index out_width = std::max<Index>(0, s.out_width());
  to_int(s.batch * s.height * s.width * std::max<Index>(1, s.in_channels));
  to_int(s.batch * out_height * out_width * std::max<Index>(1, s.out_channels));
  to_int(s.kernel_height * s.kernel_width * s.in_channels / s.groups * s.out_channels);
  return {to_int(s.batch),        to_int(s.height),        to_int(s.width),
          to_int(s.in_channels),  to_int(s.kernel_height), to_int(s.kernel_width),
          to_int(s.out_channels), to_int(s.stride),        to_int(s.padding),
          to_int(s.groups),       to_int(out_height),      to_int(out_width)};
}

// Pixel `index` of images of height x width, counted row by row and image by image.
struct Pixel {
  int n, h, w;

  __device__ Pixel(int index, int height, int width)
      : n(index / width / height), h(index / width % height), w(index % width) {}

  __device__ void advance(int pixels, int height, int width) {
    for (w += pixels; w >= width; w -= width)
      if (++h == height) h = 0, ++n;
  }
};

// 0 <= i < size
__device__ __forceinline__ bool inside(int i, int size) {
  return static_cast<unsigned>(i) < static_cast<unsigned>(size);
}

}  // namespace chalk::cuda
