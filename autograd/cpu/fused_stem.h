// Batch norm, ReLU and max pool in one pass: how an image enters a ResNet.
//
//   y = max_pool2d(max(batch norm(x), 0))
//
// x is the largest tensor of the network. One after the other, the three read and write it seven
// times, forward and back; like this it is read once on the way forward, and read and written once
// on the way back.
#pragma once

#include <cstdint>

#include "autograd/shape.h"

namespace chalk::cpu {

// y, winner and position are [batch, out height, out width, channels]. Where no gradient will be
// asked for, winner and position may both be nullptr.
template <typename T>
void batch_norm_max_pool2d(const Pool2dSizes& sizes, const T* x, const T* mean,
                           const T* inverse_std, const T* gamma, const T* beta, T* y, T* winner,
                           std::uint8_t* position);

template <typename T>
void batch_norm_max_pool2d_backward(const Pool2dSizes& sizes, const T* x, const T* mean,
                                    const T* inverse_std, const T* gamma, const T* beta,
                                    bool training, const T* winner, const std::uint8_t* position,
                                    const T* dy, T* dx, T* dgamma, T* dbeta);

}  // namespace chalk::cpu
