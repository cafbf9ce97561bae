// Fusion: several operations in one pass over memory.
//
// A modern core computes faster than memory delivers, so batch norm, ReLU and the like cost what
// their reads and writes cost, and doing two in one pass halves that. The composed form, one
// operation after the other, stays as the reference that tests hold the fused one equal to.
#pragma once

namespace chalk {

// Whether operations that have a fused form use it. At the start yes, unless the environment
// variable CHALK_FUSED is 0, or the build was configured with -DCHALK_PLAIN=ON.
bool fusion_enabled();
void set_fusion(bool enabled);

}  // namespace chalk
