// What batch norm and max pooling share with the fused operations that contain them.
#pragma once

#include "autograd/backend.h"
#include "autograd/operations.h"

namespace chalk {

// Throws Error unless the parameters and running statistics fit x [..., channels], 0 <= eps <
// infinity and 0 <= momentum <= 1.
void check_batch_norm(const char* operation, const Tensor& x, const Tensor& gamma,
                      const Tensor& beta, const RunningStatistics& running,
                      const BatchNormOptions& options);

// Mean and 1 / sqrt(variance + eps): the batch's in training, which also move the running ones,
// else the running ones.
BatchNormState batch_norm_state(const Tensor& x, RunningStatistics& running,
                                const BatchNormOptions& options);

// Throws Error where the windows make no sense or do not fit.
Pool2dSizes max_pool2d_sizes(const char* operation, const Tensor& input, Index kernel, Index stride,
                             Index padding);

}  // namespace chalk
