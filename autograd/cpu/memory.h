// The CPU's memory, as kernels ask for it; tensors get theirs from cpu_allocator().
#pragma once

#include <cstddef>
#include <memory>

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

}  // namespace chalk::cpu
