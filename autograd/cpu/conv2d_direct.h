// Convolution, first rung: the definition as seven loops. Every other rung is held equal to it.
//
//   x: input, y: output, w: weight, dx, dy, dw: their gradients; n: image, (h, w): output pixel,
//   (i, j): position in the kernel, c: input channel within its group, o: output channel
#pragma once

#include <algorithm>

#include "autograd/cpu/parallel.h"

namespace chalk::cpu {

// Calls visit(y index, x index, w index) for every product of which the convolution is the sum,
// for the images [n_begin, n_end) and input channels [c_begin, c_end) of each group.
template <typename Visit>
void for_each_product(const Conv2dSizes& s, Index n_begin, Index n_end, Index c_begin, Index c_end,
                      const Visit& visit) {
  const Index in_group = s.in_channels / s.groups, out_group = s.out_channels / s.groups;
  for (Index n = n_begin; n < n_end; ++n) {
    for (Index h = 0; h < s.out_height(); ++h) {
      for (Index w = 0; w < s.out_width(); ++w) {
        for (Index i = 0; i < s.kernel_height; ++i) {
          for (Index j = 0; j < s.kernel_width; ++j) {
            const Index y = h * s.stride + i - s.padding, x = w * s.stride + j - s.padding;
            if (y < 0 || y >= s.height || x < 0 || x >= s.width) continue;
            for (Index c = c_begin; c < c_end; ++c) {
              for (Index o = 0; o < s.out_channels; ++o) {
                visit(((n * s.out_height() + h) * s.out_width() + w) * s.out_channels + o,
                      ((n * s.height + y) * s.width + x) * s.in_channels +
                          o / out_group * in_group + c,
                      ((i * s.kernel_width + j) * in_group + c) * s.out_channels + o);
              }
            }
          }
        }
      }
    }
  }
}

// y[n, h, w, o] = sum over i, j, c of x[n, h stride + i - padding, w stride + j - padding, c]
//                                     * w[i, j, c, o]
template <typename T>
void conv2d_direct_forward(const Conv2dSizes& s, const T* x, const T* weight, T* y) {
  const Index image = s.out_height() * s.out_width() * s.out_channels;
  std::fill(y, y + s.batch * image, T(0));
  parallel_for(s.batch, [&](Index n) {
    for_each_product(
        s, n, n + 1, 0, s.in_channels / s.groups,
        [&](Index y_at, Index x_at, Index w_at) { y[y_at] += x[x_at] * weight[w_at]; });
  });
}

// dx gets from every product its dy * w.
template <typename T>
void conv2d_direct_backward_input(const Conv2dSizes& s, const T* dy, const T* weight, T* dx) {
  std::fill(dx, dx + s.batch * s.height * s.width * s.in_channels, T(0));
  parallel_for(s.batch, [&](Index n) {
    for_each_product(s, n, n + 1, 0, s.in_channels / s.groups,
                     [&](Index y, Index x, Index w) { dx[x] += dy[y] * weight[w]; });
  });
}

// dw gets from every product its x * dy.
template <typename T>
void conv2d_direct_backward_weight(const Conv2dSizes& s, const T* x, const T* dy, T* dw) {
  const Index in_group = s.in_channels / s.groups;
  std::fill(dw, dw + s.kernel_height * s.kernel_width * in_group * s.out_channels, T(0));
  parallel_for(in_group, [&](Index c) {
    for_each_product(s, 0, s.batch, c, c + 1,
                     [&](Index y_at, Index x_at, Index w_at) { dw[w_at] += x[x_at] * dy[y_at]; });
  });
}

}  // namespace chalk::cpu
