// Where each device's backend and memory come from.
//
// The CPU is always there. A build without CUDA links no_cuda.cpp in place of the folder cuda/, so
// that nothing else has to ask at compile time what there is.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "autograd/backend.h"

namespace chalk {

struct AugmentParameters;

Backend& cpu_backend(DType dtype);
Allocator& cpu_allocator();

// Those of the GPU of that number. Throw Error in a build without CUDA, or on a machine without it.
Backend& cuda_backend(DType dtype, int index = 0);
Allocator& cuda_allocator(int index = 0);

// augment() of data/transforms.h for a batch on a GPU.
Tensor cuda_augment(const Tensor& images, const std::vector<AugmentParameters>& parameters);

// Whether these will succeed, for the first GPU.
bool cuda_available();

// Throws Error, saying why, where they would not for this one.
void cuda_check_device(int index);

// What messages call it: "cuda:0"; where kernels run emulated "cuda (on cpu)", "cuda:1 (on cpu)".
std::string cuda_name(int index);

// What it is: "NVIDIA H100 80GB HBM3, 79 GiB".
std::string cuda_description(int index);

// The most bytes of its memory that tensors have held so far.
Index cuda_peak_memory(int index = 0);

// A function's work on a device, recorded to be replayed without the function: CUDA's graphs. See
// optim/captured_step.h.
class Recorder {
 public:
  virtual ~Recorder() = default;

  // Calls it as it is, but with memory of the recorder's own, which record() then finds there.
  virtual void warm_up(const std::function<void()>& function) = 0;

  // Records what it would do, and does none of it. The device's memory that it reads and writes
  // must outlive the recorder. Throws Error where it waits for the device or copies from the CPU.
  virtual void record(const std::function<void()>& function) = 0;

  // Does what was recorded; its random numbers begin so many later in their streams than then.
  virtual void replay(std::uint64_t random_offset) = 0;

  // How many kernels and copies a replay is.
  virtual Index launches() const = 0;
};

// nullptr for a device that can't record: the CPU.
std::unique_ptr<Recorder> make_recorder(Device device);

}  // namespace chalk
