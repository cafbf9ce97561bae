// Scratch: memory that a kernel needs only while it runs.
//
// Fresh memory is slow: the system hands it out in pages of 4 KiB, zeroing each at its first use,
// which costs a tenth of a training step. So every calling thread keeps what its kernels have
// used, in huge pages where the system has them, and hands it out again like a stack:
//
//   Scratch scratch;                              // remembers how much is in use
//   float* padded = scratch.take<float>(count);   // not initialised
//                                                 // ~Scratch gives everything back
//
// Take buffers before the parallel loop, one slice for each thread: then nothing throws inside.
#pragma once

#include "autograd/cpu/memory.h"
#include "autograd/shape.h"

namespace chalk::cpu {

class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Room for count elements, aligned to a cache line. Lives as long as this object; of several
  // Scratch objects on one thread only the youngest may take.
  template <typename T>
  T* take(Index count) {
    return static_cast<T*>(take_bytes(static_cast<std::size_t>(count) * sizeof(T)));
  }

 private:
  void* take_bytes(std::size_t bytes);

  std::size_t block_, used_;  // of this thread's arena when this object was made
};

}  // namespace chalk::cpu
