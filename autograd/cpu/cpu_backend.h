// Choices for the CPU backend. The backend itself is reached through chalk::backend().
#pragma once

#include <string_view>

#include "autograd/cpu/conv2d.h"

namespace chalk::cpu {

// The rung of the ladder that every convolution takes from now on. At the start it is the one that
// the environment variable CHALK_CONV names; without it `automatic`, the fastest for each shape,
// or `direct` in a build with -DCHALK_PLAIN=ON.
void set_conv_rung(ConvRung rung);
ConvRung conv_rung();

// From "automatic", "direct", "gemm", "winograd2" or "winograd4"; throws Error for other names.
ConvRung conv_rung_named(std::string_view name);

}  // namespace chalk::cpu
