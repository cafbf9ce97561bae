// Depthwise convolution: every channel is its own group, so there is no sum over channels and no
// matrix product. With channels last the channels themselves fill the vectors, and the work is
// bound by memory: each pass reads its inputs once.
#pragma once

#include "autograd/cpu/matrix_kernel.h"
#include "autograd/cpu/parallel.h"
#include "autograd/cpu/scratch.h"

namespace chalk::cpu {

inline bool is_depthwise(const Conv2dSizes& s) {
  return s.groups == s.in_channels && s.groups == s.out_channels;
}

// The taps that touch the image, [begin, end), for an output pixel whose first tap is at `first`.
struct TapRange {
  Index begin, end;

  TapRange(Index first, Index kernel, Index size)
      : begin(std::clamp<Index>(-first, 0, kernel)), end(std::clamp(size - first, begin, kernel)) {}
};

// One output pixel, `vectors` vectors of channels from c on: the sum over the taps stays in
// registers. `corner` is the input pixel under tap (0, 0), `row` the numbers in an input row.
template <typename T, int vectors>
void depthwise_pixel(const Conv2dSizes& s, const TapRange& taps_y, const TapRange& taps_x,
                     const T* corner, Index row, const T* weight, Index c, T* y) {
  const Index channels = s.in_channels;
  Vector<T> sum[vectors] = {};
  for (Index i = taps_y.begin; i < taps_y.end; ++i) {
    const T* x = corner + i * row + taps_x.begin * channels + c;
    const T* w = weight + (i * s.kernel_width + taps_x.begin) * channels + c;
    for (Index j = taps_x.begin; j < taps_x.end; ++j, x += channels, w += channels) {
      for (int v = 0; v < vectors; ++v) {
        const Index left = vectors > 1 ? lanes<T> : channels - c;
        sum[v] += load_some(x + v * lanes<T>, left) * load_some(w + v * lanes<T>, left);
      }
    }
  }
  for (int v = 0; v < vectors; ++v)
    store_some(y + c + v * lanes<T>, sum[v], channels - c);
}

// y[n, h, w, c] = sum over i, j of x[n, h stride + i - padding, w stride + j - padding, c]
//                                  * weight[i, j, c]
template <typename T>
void conv2d_depthwise_forward(const Conv2dSizes& s, const T* x, const T* weight, T* y) {
  const Index channels = s.in_channels, out_height = s.out_height(), out_width = s.out_width();
  const Index row = s.width * channels;
  parallel_ranges(s.batch * out_height, 4, [&](Index first, Index last) {
    for (Index line = first; line < last; ++line) {
      const Index top = line % out_height * s.stride - s.padding;
      const TapRange taps_y(top, s.kernel_height, s.height);
      for (Index w = 0; w < out_width; ++w) {
        const Index left = w * s.stride - s.padding;
        const TapRange taps_x(left, s.kernel_width, s.width);
        const T* corner = x + (line / out_height * s.height + top) * row + left * channels;
        T* to = y + (line * out_width + w) * channels;
        Index c = 0;
        for (; channels - c >= 2 * lanes<T>; c += 2 * lanes<T>) {
          depthwise_pixel<T, 2>(s, taps_y, taps_x, corner, row, weight, c, to);
        }
        for (; c < channels; c += lanes<T>) {
          depthwise_pixel<T, 1>(s, taps_y, taps_x, corner, row, weight, c, to);
        }
      }
    }
  });
}

// Output pixels h with 0 <= h * stride + tap - padding < size: those that tap falls on the image.
struct OutputRange {
  Index begin, end;

  static OutputRange of(Index tap, Index stride, Index padding, Index size, Index out_size) {
    const Index begin = divide_up(std::max<Index>(padding - tap, 0), stride);
    const Index last = size - 1 + padding - tap;
    return {begin, last < 0 ? begin : std::max(begin, std::min(out_size, last / stride + 1))};
  }
};

// dx[n, h stride + i - padding, w stride + j - padding, c] += dy[n, h, w, c] w[i, j, c]
template <typename T>
void conv2d_depthwise_backward_input(const Conv2dSizes& s, const T* dy, const T* weight, T* dx) {
  const Index channels = s.in_channels, out_height = s.out_height(), out_width = s.out_width();
  if (s.stride == 1 && s.kernel_height == s.kernel_width && s.padding < s.kernel_height) {
    // The same operation on dy, with the kernel turned around.
    const Index taps = s.kernel_height * s.kernel_width;
    Scratch scratch;
    T* turned = scratch.take<T>(taps * channels);
    for (Index tap = 0; tap < taps; ++tap) {
      const T* from = weight + (taps - 1 - tap) * channels;
      std::copy(from, from + channels, turned + tap * channels);
    }
    const Conv2dSizes back{s.batch,
                           out_height,
                           out_width,
                           channels,
                           s.kernel_height,
                           s.kernel_width,
                           channels,
                           1,
                           s.kernel_height - 1 - s.padding,
                           channels};
    return conv2d_depthwise_forward(back, dy, turned, dx);
  }
  parallel_for(s.batch * s.height, [&](Index task) {
    const Index n = task / s.height, row = task % s.height;
    T* line = dx + task * s.width * channels;
    std::fill(line, line + s.width * channels, T(0));
    for (Index i = 0; i < s.kernel_height; ++i) {
      const Index position = row + s.padding - i, h = position / s.stride;
      if (position < 0 || position % s.stride != 0 || h >= out_height) continue;
      for (Index j = 0; j < s.kernel_width; ++j) {
        const T* taps = weight + (i * s.kernel_width + j) * channels;
        const auto range = OutputRange::of(j, s.stride, s.padding, s.width, out_width);
        for (Index w = range.begin; w < range.end; ++w) {
          const T* from = dy + ((n * out_height + h) * out_width + w) * channels;
          T* to = line + (w * s.stride + j - s.padding) * channels;
          for (Index c = 0; c < channels; ++c)
            to[c] += from[c] * taps[c];
        }
      }
    }
  });
}

// sum[j, c] += sum over w of x[w stride + j - padding, c] * dy[w, c]: one row of x, of dy and of
// taps, `vectors` vectors of channels from c on.
template <typename T, int vectors>
void depthwise_weight_row(const Conv2dSizes& s, const T* x, const T* dy, Index c, T* sum) {
  const Index channels = s.in_channels;
  for (Index j = 0; j < s.kernel_width; ++j) {
    const auto range = OutputRange::of(j, s.stride, s.padding, s.width, s.out_width());
    Vector<T> total[vectors] = {};
    for (Index w = range.begin; w < range.end; ++w) {
      const T* pixel = x + (w * s.stride + j - s.padding) * channels + c;
      const T* gradient = dy + w * channels + c;
      for (int v = 0; v < vectors; ++v) {
        const Index left = vectors > 1 ? lanes<T> : channels - c;
        total[v] +=
            load_some(pixel + v * lanes<T>, left) * load_some(gradient + v * lanes<T>, left);
      }
    }
    for (int v = 0; v < vectors; ++v) {
      const Index left = vectors > 1 ? lanes<T> : channels - c;
      T* to = sum + j * channels + c + v * lanes<T>;
      store_some(to, load_some(to, left) + total[v], left);
    }
  }
}

// dw[i, j, c] = sum over n, h, w of x[n, h stride + i - padding, w stride + j - padding, c]
//                                   * dy[n, h, w, c]
// Up to 16 groups of images are summed apart, so that as many threads can work, then added.
template <typename T>
void conv2d_depthwise_backward_weight(const Conv2dSizes& s, const T* x, const T* dy, T* dw) {
  const Index channels = s.in_channels, out_height = s.out_height(), out_width = s.out_width();
  const Index size = s.kernel_height * s.kernel_width * channels;
  const Index images = divide_up(s.batch, 16), pieces = divide_up(s.batch, images);
  Scratch scratch;
  T* sums = scratch.take<T>(pieces * size);
  parallel_for(pieces, [&](Index piece) {
    T* sum = sums + piece * size;
    std::fill(sum, sum + size, T(0));
    const Index end = std::min(s.batch, (piece + 1) * images) * out_height;
    for (Index row = piece * images * out_height; row < end; ++row) {
      const Index top = row % out_height * s.stride - s.padding;
      const TapRange taps_y(top, s.kernel_height, s.height);
      for (Index i = taps_y.begin; i < taps_y.end; ++i) {
        const T* line = x + (row / out_height * s.height + top + i) * s.width * channels;
        const T* gradient = dy + row * out_width * channels;
        T* to = sum + i * s.kernel_width * channels;
        Index c = 0;
        for (; channels - c >= 4 * lanes<T>; c += 4 * lanes<T>) {
          depthwise_weight_row<T, 4>(s, line, gradient, c, to);
        }
        for (; c < channels; c += lanes<T>) {
          depthwise_weight_row<T, 1>(s, line, gradient, c, to);
        }
      }
    }
  });
  add_pieces(pieces, size, sums);
  std::copy(sums, sums + size, dw);
}

}  // namespace chalk::cpu
