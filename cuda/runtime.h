// The CUDA runtime as chalk uses it: for each device one stream that all work goes to, and every
// status checked.
//
// One stream means one order: a kernel sees what the kernels launched before it wrote, and a block
// of memory may be handed out again as soon as its last use is launched. All of this is called from
// one thread of the program.
#pragma once

#include <initializer_list>
#include <vector>

#include "autograd/tensor.h"

#ifdef __CUDACC__
#include <cublas_v2.h>
#include <cuda_runtime.h>
#else
#include "cuda/on_cpu/cublas.h"
#include "cuda/on_cpu/runtime.h"
#endif

namespace chalk::cuda {

// Makes a device the current one while it lives.
class CurrentDevice {
 public:
  explicit CurrentDevice(int index);
  ~CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_;
};

// One operation: while it lives, its device is the current one, and an error says what failed on
// which tensors. Undefined ones are left out.
class Call {
 public:
  Call(int device, const char* operation, std::initializer_list<const Tensor*> tensors);
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // "matmul of [1, 3, 4], [1, 4, 2] on cuda:0"; "cuda" where no call is under way.
  static std::string describe();

 private:
  const CurrentDevice device_;
  const int index_;
  const char* const operation_;
  const std::vector<const Tensor*> tensors_;  // a list would be gone with the statement
  const Call* const outer_;
};

// Of the current device.
int current_device();
cudaStream_t stream();
cublasHandle_t cublas();
int multiprocessors();
std::size_t shared_memory_of_block();  // bytes that a launch may ask for
std::uint64_t* random_base();          // see random_fill.cuh

// Throw Error unless all is well; it says what CUDA says, and which call it was.
void check_cuda(cudaError_t status);
void check_cublas(cublasStatus_t status);

// After every launch. With CHALK_CUDA_SYNC=1 it waits for the kernel, so that an error inside of it
// is reported where it was launched and not by a later call.
void check_launch();

// Whether what is launched on the current device is being recorded, not done.
bool recording();

// Sizes in kernels are int, since 64-bit arithmetic is slow there. Throws Error where n is too
// large.
int to_int(Index n);

}  // namespace chalk::cuda
