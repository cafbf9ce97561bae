// Convolution on the CPU: the passes, and the choice of the rung that computes them.
//
// Tensors are channels last, see Conv2dSizes; T is float or double. Every rung gives the same
// result up to rounding, and the same bits whatever the number of threads.
#pragma once

#include "autograd/cpu/scratch.h"

namespace chalk::cpu {

// The ladder, from the definition to the fastest. A rung that cannot do a shape (winograd other
// than 3x3 with stride 1) leaves it to gemm.
enum class ConvRung { automatic, direct, im2col, gemm, winograd2, winograd4 };

// A weight as a rung reads it: packed in panels, or transformed. Packing costs little beside a
// batch but much beside one image, so evaluation keeps one per layer, made when the weight has
// last changed, and passes it to every conv2d_forward with the same sizes but any batch.
template <typename T>
struct PackedWeights {
  ConvRung rung;  // never automatic
  Memory values;  // of T
};

template <typename T>
PackedWeights<T> pack_weights(const Conv2dSizes& sizes, const T* weight,
                              ConvRung rung = ConvRung::automatic);

// y[n, h, w, o] = sum over i, j, c of x[n, h stride + i - padding, w stride + j - padding, c]
//                                     * weight[i, j, c, o]         (c: the channels of o's group)
// If `packed` is given it decides the rung, and takes the place of `weight`, which it was made of.
template <typename T>
void conv2d_forward(const Conv2dSizes& sizes, const T* input, const T* weight, T* output,
                    ConvRung rung = ConvRung::automatic, const PackedWeights<T>* packed = nullptr);

// dx[n, y, x, c] = sum over the i, j, o, h, w with h stride + i - padding = y and
//                  w stride + j - padding = x of  dy[n, h, w, o] weight[i, j, c, o]
template <typename T>
void conv2d_backward_input(const Conv2dSizes& sizes, const T* grad_output, const T* weight,
                           T* grad_input, ConvRung rung = ConvRung::automatic);

// dweight[i, j, c, o] = sum over n, h, w of
//     x[n, h stride + i - padding, w stride + j - padding, c] * dy[n, h, w, o]
template <typename T>
void conv2d_backward_weight(const Conv2dSizes& sizes, const T* input, const T* grad_output,
                            T* grad_weight, ConvRung rung = ConvRung::automatic);

}  // namespace chalk::cpu
