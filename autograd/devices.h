// Where each device's backend and memory come from.
//
// The CPU is always there. A build without CUDA links no_cuda.cpp in place of the folder cuda/, so
// that nothing else has to ask at compile time what there is.
#pragma once

#include "autograd/backend.h"

namespace chalk {

Backend& cpu_backend(DType dtype);
Allocator& cpu_allocator();

// Throw Error in a build without CUDA, or on a machine without a device.
Backend& cuda_backend(DType dtype);
Allocator& cuda_allocator();

// Whether the two above will succeed.
bool cuda_available();

}  // namespace chalk
