#include "autograd/cpu/memory.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>

#include "autograd/caching_allocator.h"
#include "autograd/check.h"
#include "autograd/devices.h"

namespace chalk::cpu {
namespace {

constexpr std::size_t cache_line = 64, huge_page = std::size_t{2} << 20;

// Whether the system has so many bytes left.
bool has_left(std::size_t bytes) {
  void* probe = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return probe != MAP_FAILED && munmap(probe, bytes) == 0;
}

// nullptr where the system has no memory left, or would have too little for all that is small:
// so it is a tensor or a kernel's buffer, with a message, that finds no room.
void* take(std::size_t bytes) {
  constexpr std::size_t for_the_small = std::size_t{32} << 20;
  if (!has_left(bytes + for_the_small)) return nullptr;
  const std::size_t unit = bytes < huge_page ? cache_line : huge_page;
  const std::size_t size = address_sanitizer ? bytes : (bytes + unit - 1) / unit * unit;
  void* memory = nullptr;
  if (posix_memalign(&memory, unit, size) != 0) return nullptr;
#ifdef __linux__
  if (unit == huge_page) madvise(memory, size, MADV_HUGEPAGE);  // only a hint: may fail
#endif
  return memory;
}

class OperatingSystem final : public System {
 public:
  void* take(Index bytes) override { return cpu::take(static_cast<std::size_t>(bytes)); }
  void give_back(void* region, Index) override { std::free(region); }
};

// A gibibyte; but of an address space that is limited (ulimit -v) at most an eighth, since images,
// threads and scratch need memory as well.
Index region_size() {
  if (address_sanitizer) return 0;
  rlimit limit{};
  getrlimit(RLIMIT_AS, &limit);
  return static_cast<Index>(std::min(limit.rlim_cur / 8, rlim_t{1} << 30));
}

CachingAllocator& caching_allocator() {
  static OperatingSystem& system = *new OperatingSystem;
  // Never destroyed: tensors in static variables may outlive any other static variable.
  static CachingAllocator& instance =
      *new CachingAllocator(Device::cpu, system, {.region_size = region_size()});
  return instance;
}

}  // namespace

void FreeMemory::operator()(std::byte* memory) const {
  std::free(memory);
}

Memory allocate_memory(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = take(bytes);
  check(memory != nullptr, "out of memory on cpu: ", bytes, " bytes were asked for, tensors use ",
        caching_allocator().usage().in_use, "; take a smaller batch or smaller images");
  return Memory(static_cast<std::byte*>(memory));
}

}  // namespace chalk::cpu

chalk::Allocator& chalk::cpu_allocator() {
  return cpu::caching_allocator();
}
