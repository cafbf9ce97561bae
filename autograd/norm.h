// What batch norm shares with the fused operations that contain it.
#pragma once

#include "autograd/backend.h"
#include "autograd/operations.h"

namespace chalk {

// Mean and 1 / sqrt(variance + eps): the batch's in training, which also move the running ones,
// else the running ones.
BatchNormState batch_norm_state(const Tensor& x, Tensor& running_mean, Tensor& running_variance,
                                const BatchNormOptions& options);

}  // namespace chalk
