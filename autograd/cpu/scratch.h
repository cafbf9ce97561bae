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

#include <cstddef>
#include <memory>
#include <vector>

#include "autograd/shape.h"

namespace chalk::cpu {

// Whether this build watches its memory. Then every tensor and every buffer is a piece of its own
// with no byte to spare, so that a read past its end is seen.
#ifdef __SANITIZE_ADDRESS__  // so GCC says it
inline constexpr bool address_sanitizer = true;
#elif defined(__clang__)
inline constexpr bool address_sanitizer = __has_feature(address_sanitizer);
#else
inline constexpr bool address_sanitizer = false;
#endif

// One piece of memory, aligned to a cache line and, if large, on huge pages; freed with its owner.
// allocate_memory(0) is nullptr.
struct FreeMemory {
  void operator()(std::byte* memory) const;
};
using Memory = std::unique_ptr<std::byte[], FreeMemory>;
Memory allocate_memory(std::size_t bytes);  // throws Error when memory is exhausted

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
