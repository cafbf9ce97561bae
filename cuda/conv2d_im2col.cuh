// Convolution, second rung: im2col, the way that every course teaches. The pixels under the kernel
// at one output pixel are a patch; gathered as the rows of a matrix they make of a convolution a
// product:
//
//   y = P W,  dP = dy W^T,  dW = P^T dy      P [pixels, kernel_height * kernel_width * in],
//                                            W [kernel_height * kernel_width * in, out]
//
// and dx gathers from dP what the patches took from each of its pixels. P repeats every pixel of x
// for each tap it lies under, 9 times for 3x3, and the memory it is written to and read from limits
// this rung. It is made for some images at a time. One group only.
#pragma once

#include "cuda/conv2d_shape.h"
#include "cuda/matmul.h"
#include "cuda/sum_pieces.cuh"
#include "cuda/workspace.h"

namespace chalk::cuda {

// P[n, h, w, i, j, c] = x[n, h stride + i - padding, w stride + j - padding, c], 0 beside the
// image; a thread an element.
template <typename T>
__global__ void gather_patches(ConvShape s, const T* x, T* patches) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x, patch = s.taps() * s.in;
  if (at >= s.outputs() * patch) return;
  const Pixel pixel(at / patch, s.out_height, s.out_width);
  const int c = at % s.in, tap = at % patch / s.in;
  const int row = pixel.h * s.stride + tap / s.kernel_width - s.padding;
  const int column = pixel.w * s.stride + tap % s.kernel_width - s.padding;
  const bool on_image = inside(row, s.height) && inside(column, s.width);
  patches[at] = on_image ? x[((pixel.n * s.height + row) * s.width + column) * s.in + c] : T(0);
}

// dx[n, row, column, c] = sum of the dP[n, h, w, i, j, c] whose patch took it from there; a thread
// an element.
template <typename T>
__global__ void gather_from_patches(ConvShape s, const T* patches, T* dx) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= s.inputs() * s.in) return;
  const Pixel pixel(at / s.in, s.height, s.width);
  T sum = 0;
  for (int i = 0; i < s.kernel_height; ++i) {
    for (int j = 0; j < s.kernel_width; ++j) {
      const int row = pixel.h + s.padding - i, column = pixel.w + s.padding - j;
      const int h = row / s.stride, w = column / s.stride;
      if (row < 0 || row % s.stride != 0 || h >= s.out_height) continue;
      if (column < 0 || column % s.stride != 0 || w >= s.out_width) continue;
      const int patch = (pixel.n * s.out_height + h) * s.out_width + w;
      sum += patches[(patch * s.taps() + i * s.kernel_width + j) * s.in + at % s.in];
    }
  }
  dx[at] = sum;
}

// Some images at a time, whose patches have about 2^26 elements.
class Im2col {
 public:
  explicit Im2col(const Conv2dSizes& sizes)
      : sizes_(sizes),
        taps_(sizes.kernel_height * sizes.kernel_width * sizes.in_channels),
        outputs_(sizes.out_height() * sizes.out_width()),
        images_(std::clamp<Index>((1 << 26) / (outputs_ * taps_), 1, sizes.batch)) {}

  template <typename T>
  void forward(const T* x, const T* weight, T* y) const {
    Workspace workspace;
    T* patches = workspace.take<T>(images_ * outputs_ * taps_);
    for (Index first = 0; first < sizes_.batch; first += images_) {
      gather(first, x, patches);
      matmul(1, pixels(first), taps_, sizes_.out_channels, patches, 0, false, weight, 0, false,
             y + first * outputs_ * sizes_.out_channels);
    }
  }

  template <typename T>
  void backward_input(const T* dy, const T* weight, T* dx) const {
    Workspace workspace;
    T* patches = workspace.take<T>(images_ * outputs_ * taps_);
    for (Index first = 0; first < sizes_.batch; first += images_) {
      matmul(1, pixels(first), sizes_.out_channels, taps_,
             dy + first * outputs_ * sizes_.out_channels, 0, false, weight, 0, true, patches);
      const ConvShape s = some(first);
      launch(gather_from_patches<T>, blocks_for(s.inputs() * s.in, 256), 256, 0, s, patches,
             dx + first * image());
    }
  }

  template <typename T>
  void backward_weight(const T* x, const T* dy, T* dweight) const {
    const Index pieces = (sizes_.batch + images_ - 1) / images_;
    const Index count = taps_ * sizes_.out_channels;
    Workspace workspace;
    T* patches = workspace.take<T>(images_ * outputs_ * taps_);
    T* sums = pieces > 1 ? workspace.take<T>(pieces * count) : dweight;
    for (Index first = 0; first < sizes_.batch; first += images_) {
      gather(first, x, patches);
      matmul(1, taps_, pixels(first), sizes_.out_channels, patches, 0, true,
             dy + first * outputs_ * sizes_.out_channels, 0, false, sums + first / images_ * count);
    }
    if (pieces > 1) sum_pieces(to_int(pieces), to_int(count), sums, dweight);
  }

 private:
  Index image() const { return sizes_.height * sizes_.width * sizes_.in_channels; }
  Index images_from(Index first) const { return std::min(images_, sizes_.batch - first); }
  Index pixels(Index first) const { return images_from(first) * outputs_; }

  // The convolution of the images from `first` on.
  ConvShape some(Index first) const {
    ConvShape s = conv_shape(sizes_);
    s.batch = to_int(images_from(first));
    return s;
  }

  template <typename T>
  void gather(Index first, const T* x, T* patches) const {
    const int count = to_int(pixels(first) * taps_);
    launch(gather_patches<T>, blocks_for(count, 256), 256, 0, some(first), x + first * image(),
           patches);
  }

  const Conv2dSizes& sizes_;
  Index taps_, outputs_, images_;  // numbers in a patch, pixels of an image of y, images at a time
};

}  // namespace chalk::cuda
