// Convolution on CUDA devices: the three passes, each by the rung that conv_rung() names.
//
// Images are channels last, weights [kernel_height, kernel_width, in_channels / groups,
// out_channels], see Conv2dSizes; T is float or double. A rung that can't do a shape or a type
// leaves it to the rung below: direct does everything, im2col and tiled do all but groups, tensor
// needs float32 that may be rounded to TF32 besides, and the special kernels of patch know some
// shapes only (those of depthwise convolution any type).
#pragma once

#include "autograd/shape.h"

namespace chalk::cuda {

// y[n, h, w, o] = sum over i, j, c of x[n, h stride + i - padding, w stride + j - padding, c]
//                                     * weight[i, j, c, o]         (c: the channels of o's group)
template <typename T>
void conv2d_forward(const Conv2dSizes& sizes, const T* x, const T* weight, T* y);

// dx[n, y, x, c] = sum over the i, j, o, h, w with h stride + i - padding = y and
//                  w stride + j - padding = x of  dy[n, h, w, o] weight[i, j, c, o]
template <typename T>
void conv2d_backward_input(const Conv2dSizes& sizes, const T* dy, const T* weight, T* dx);

// dweight[i, j, c, o] = sum over n, h, w of
//     x[n, h stride + i - padding, w stride + j - padding, c] * dy[n, h, w, o]
template <typename T>
void conv2d_backward_weight(const Conv2dSizes& sizes, const T* x, const T* dy, T* dweight);

}  // namespace chalk::cuda
