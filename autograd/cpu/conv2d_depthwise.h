// Depthwise convolution: every channel is its own group, so there is no sum over channels and no
// matrix product. With channels last the channels themselves fill the vectors, and the work is
// bound by memory: each pass reads its inputs once and keeps its sums in registers.
#pragma once

#include "autograd/cpu/matrix_kernel.h"
#include "autograd/cpu/parallel.h"

namespace chalk::cpu {

inline bool is_depthwise(const Conv2dSizes& s) {
  return s.groups == s.in_channels && s.groups == s.out_channels;
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

// y[n, h, w, c] = sum over i, j of x[n, h stride + i - padding, w stride + j - padding, c] w[i, j,
// c]
template <typename T>
void conv2d_depthwise_forward(const Conv2dSizes& s, const T* x, const T* weight, T* y) {
  const Index channels = s.in_channels, out_height = s.out_height(), out_width = s.out_width();
  parallel_for(s.batch * out_height, [&](Index task) {
    const Index n = task / out_height, h = task % out_height;
    T* line = y + task * out_width * channels;
    std::fill(line, line + out_width * channels, T(0));
    for (Index i = 0; i < s.kernel_height; ++i) {
      const Index row = h * s.stride + i - s.padding;
      if (row < 0 || row >= s.height) continue;
      for (Index j = 0; j < s.kernel_width; ++j) {
        const T* taps = weight + (i * s.kernel_width + j) * channels;
        const auto range = OutputRange::of(j, s.stride, s.padding, s.width, out_width);
        for (Index w = range.begin; w < range.end; ++w) {
          const T* from =
              x + ((n * s.height + row) * s.width + w * s.stride + j - s.padding) * channels;
          T* to = line + w * channels;
          for (Index c = 0; c < channels; ++c)
            to[c] += from[c] * taps[c];
        }
      }
    }
  });
}

// dx[n, h stride + i - padding, w stride + j - padding, c] += dy[n, h, w, c] w[i, j, c]
template <typename T>
void conv2d_depthwise_backward_input(const Conv2dSizes& s, const T* dy, const T* weight, T* dx) {
  const Index channels = s.in_channels, out_height = s.out_height(), out_width = s.out_width();
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

// dw[i, j, c] = sum over n, h, w of x[n, h stride + i - padding, w stride + j - padding, c]
//                                   * dy[n, h, w, c]
template <typename T>
void conv2d_depthwise_backward_weight(const Conv2dSizes& s, const T* x, const T* dy, T* dw) {
  const Index channels = s.in_channels, out_height = s.out_height(), out_width = s.out_width();
  parallel_for(s.kernel_height * s.kernel_width, [&](Index tap) {
    const Index i = tap / s.kernel_width, j = tap % s.kernel_width;
    const auto columns = OutputRange::of(j, s.stride, s.padding, s.width, out_width);
    const auto rows = OutputRange::of(i, s.stride, s.padding, s.height, out_height);
    T* sum = dw + tap * channels;
    std::fill(sum, sum + channels, T(0));
    for (Index n = 0; n < s.batch; ++n) {
      for (Index h = rows.begin; h < rows.end; ++h) {
        const Index row = h * s.stride + i - s.padding;
        for (Index w = columns.begin; w < columns.end; ++w) {
          const T* a =
              x + ((n * s.height + row) * s.width + w * s.stride + j - s.padding) * channels;
          const T* b = dy + ((n * out_height + h) * out_width + w) * channels;
          for (Index c = 0; c < channels; ++c)
            sum[c] += a[c] * b[c];
        }
      }
    }
  });
}

}  // namespace chalk::cpu
