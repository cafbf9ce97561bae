// Where each device's backend and memory come from.
//
// The CPU is always there. A build without CUDA links no_cuda.cpp in place of the folder cuda/, so
// that nothing else has to ask at compile time what there is.
#pragma once

#include "autograd/backend.h"

namespace chalk {

Backend& cpu_backend(DType dtype);
Allocator& cpu_allocator();

// Those of the GPU of that number. Throw Error in a build without CUDA, or on a machine without it.
Backend& cuda_backend(DType dtype, int index = 0);
Allocator& cuda_allocator(int index = 0);

// Whether the two above will succeed, for the first GPU.
bool cuda_available();

}  // namespace chalk
