// The allocator behind every device's tensors: reuse of blocks, and what it does when memory is
// short.
#include "autograd/caching_allocator.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>

#include "autograd/cpu/memory.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

constexpr Index mebibyte = Index{1} << 20;

// A system with so much memory.
struct TestSystem : System {
  Index left = 64 * mebibyte;
  int refusals = 0;

  void* take(Index bytes) override {
    if (bytes > left) return ++refusals, nullptr;
    left -= bytes;
    void* region = nullptr;
    return posix_memalign(&region, 256, static_cast<std::size_t>(bytes)) == 0 ? region : nullptr;
  }
  void give_back(void* region, Index bytes) override {
    left += bytes;
    std::free(region);
  }
};

struct TestAllocator : TestSystem, CachingAllocator {
  explicit TestAllocator(const Options& options = {.region_size = 8 * mebibyte})
      : CachingAllocator({Device::Type::cuda, 3}, *this, options) {}
};

// Makes tensors until there is no memory for more. Returns 0 if an Error says so, there were as
// many as fit, and something is left for what is not a tensor.
int fill_memory(Index limit) {
  Index pages = 0;
  std::ifstream("/proc/self/statm") >> pages;  // of address space
  rlimit address_space{};
  getrlimit(RLIMIT_AS, &address_space);
  address_space.rlim_cur = static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE) + limit);
  setrlimit(RLIMIT_AS, &address_space);
  std::vector<Tensor> all;
  const std::string message = error_of([&] {
    while (all.size() < 1000)
      all.emplace_back(Shape{16 * mebibyte}, DType::uint8);
  });
  const bool is_left = std::malloc(8 * mebibyte) != nullptr;
  return message.starts_with("out of memory on cpu: 16777216 bytes were asked for, tensors use") &&
                 static_cast<Index>(all.size()) >= limit / (24 * mebibyte) && is_left
             ? 0
             : 1;
}

}  // namespace

TEST_CASE("the allocator hands a released block out again") {
  TestAllocator allocator;
  void* block = allocator.allocate(1000);
  CHECK(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
  CHECK(allocator.usage().in_use == 1024);
  allocator.release(block, 1000);
  CHECK(allocator.usage().in_use == 0);
  void* smaller = allocator.allocate(900);
  CHECK(smaller == block);
  void* tiny = allocator.allocate(0);
  CHECK(tiny != nullptr);
  CHECK(tiny != smaller);
  CHECK(allocator.usage().peak == 960 + 64);
}

TEST_CASE("blocks begin where the device wants it") {
  TestAllocator allocator({.region_size = mebibyte, .alignment = 256});
  allocator.allocate(1);
  CHECK(reinterpret_cast<std::uintptr_t>(allocator.allocate(1)) % 256 == 0);
  CHECK(allocator.usage().in_use == 512);
}

TEST_CASE("the allocator joins released blocks that lie side by side, in any order") {
  constexpr int count = 6;
  for (const auto order :
       {std::array{0, 1, 2, 3, 4, 5}, std::array{5, 4, 3, 2, 1, 0}, std::array{0, 2, 4, 1, 3, 5}}) {
    TestAllocator allocator;
    void* whole = allocator.allocate(count * mebibyte);
    allocator.release(whole, count * mebibyte);
    std::array<void*, count> blocks;
    for (void*& block : blocks)
      block = allocator.allocate(mebibyte);
    CHECK(blocks[0] == whole);
    for (const int i : order)
      allocator.release(blocks[static_cast<std::size_t>(i)], mebibyte);
    CHECK(allocator.allocate(count * mebibyte) == whole);
  }
}

TEST_CASE("the allocator takes the first piece that is large enough") {
  TestAllocator allocator;
  const std::array<Index, 5> sizes = {512, 64, 1024, 64, 1024};
  std::array<void*, 5> blocks;
  for (std::size_t i = 0; i < 5; ++i)
    blocks[i] = allocator.allocate(sizes[i]);
  for (const std::size_t i : {0u, 2u, 4u})
    allocator.release(blocks[i], sizes[i]);
  CHECK(allocator.allocate(1000) == blocks[2]);
}

TEST_CASE("the allocator gives memory that nothing uses back before it takes more") {
  TestAllocator allocator;
  for (const Index size : {10, 40, 60}) {  // of 64
    allocator.release(allocator.allocate(size * mebibyte), size * mebibyte);
    CHECK(allocator.usage().regions == size * mebibyte);
  }
  CHECK(allocator.refusals == 0);
}

TEST_CASE("where memory is short, regions are smaller, down to the block") {
  TestAllocator allocator({.region_size = 48 * mebibyte});
  allocator.allocate(48 * mebibyte);
  void* block = allocator.allocate(3 * mebibyte);  // of 16 that are left: 48, 24, then 12 fit
  CHECK(allocator.usage().regions == 60 * mebibyte);
  CHECK(allocator.refusals == 2);
  CHECK(allocator.allocate(9 * mebibyte) == static_cast<std::byte*>(block) + 3 * mebibyte);
  allocator.allocate(4 * mebibyte);
  CHECK(allocator.left == 0);
}

TEST_CASE("a process with little memory fills it with tensors, and says when it can't go on") {
  if (cpu::address_sanitizer) return;  // which takes more address space than there is memory
  const pid_t child = fork();
  if (child == 0) _exit(fill_memory(400 * mebibyte));
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("without regions every block is a piece of memory by itself") {
  TestAllocator allocator({.region_size = 0});
  void* block = allocator.allocate(1000);
  CHECK(allocator.usage().regions == 1000);
  allocator.release(block, 1000);
  CHECK(allocator.usage().regions == 0);
}

TEST_CASE("an impossible allocation is an error that names the device and the sizes") {
  TestAllocator allocator;
  allocator.allocate(64);
  allocator.release(allocator.allocate(640), 640);
  check_error(
      [&] { allocator.allocate(Index{1} << 59); },
      {"out of memory on cuda:3", "576460752303423488 bytes", "tensors use 64", "smaller batch"});
  check_error([&] { allocator.allocate(-1); }, {"-1 bytes"});
  CHECK(allocator.usage().in_use == 64);
}
