// What batch norm and max pooling share with the fused operations that contain them.
#pragma once

#include <initializer_list>

#include "autograd/backend.h"
#include "autograd/operations.h"

namespace chalk {

// Mean and 1 / sqrt(variance + eps): the batch's in training, which also move the running ones,
// else the running ones.
BatchNormState batch_norm_state(const Tensor& x, Tensor& running_mean, Tensor& running_variance,
                                const BatchNormOptions& options);

// Throws Error unless every parameter is [channels of x] and of x's type.
void check_channels(const char* operation, const Tensor& x,
                    std::initializer_list<const Tensor*> parameters);

// Throws Error where the windows make no sense or do not fit.
Pool2dSizes max_pool2d_sizes(const char* operation, const Tensor& input, Index kernel, Index stride,
                             Index padding);

}  // namespace chalk
