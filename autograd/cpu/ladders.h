// Which rung of its ladder a convolution and a matrix product take on the CPU.
#pragma once

#include <string_view>
#include <vector>

#include "autograd/cpu/conv2d.h"
#include "autograd/cpu/matmul.h"

namespace chalk::cpu {

// The rung of every convolution from now on. At the start it is the one that the environment
// variable CHALK_CONV names; without it `automatic`, the fastest for each shape, or `direct` in a
// build with -DCHALK_PLAIN=ON.
void set_conv_rung(ConvRung rung);
ConvRung conv_rung();

// Of every matrix product: CHALK_MATMUL, else `blocked`, or `loops` with -DCHALK_PLAIN=ON.
void set_matmul_rung(MatmulRung rung);
MatmulRung matmul_rung();

// The rungs' names, from the first to the last, and the rung that has a name; throws Error for
// other names.
const std::vector<std::string_view>& conv_rung_names();
const std::vector<std::string_view>& matmul_rung_names();
ConvRung conv_rung_named(std::string_view name);
MatmulRung matmul_rung_named(std::string_view name);

}  // namespace chalk::cpu
