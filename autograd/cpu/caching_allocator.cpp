#include "autograd/cpu/caching_allocator.h"

#include <algorithm>
#include <new>

#include "autograd/check.h"
#include "autograd/devices.h"

namespace chalk::cpu {

constexpr Index mebibyte = Index{1} << 20;

// Sizes in steps of 64 bytes, from 2 MiB on in steps of that, the size of a huge page: fewer
// different sizes, more blocks that fit again.
static Index block_size(Index bytes) {
  const Index unit = bytes >= 2 * mebibyte ? 2 * mebibyte : 64;
  return std::max<Index>(1, (bytes + unit - 1) / unit) * unit;
}

void* CachingAllocator::allocate(Index bytes) {
  constexpr Index most = Index{1} << 60;
  check(bytes >= 0 && bytes <= most, "out of memory: ", bytes, " bytes can't be allocated");
  const Index size = block_size(bytes);
  const std::lock_guard lock(mutex_);
  void* block = take_kept(size);
  if (block == nullptr) {
    Memory memory = fresh(size);
    block = memory.get();
    in_use_.emplace(block, std::make_pair(size, std::move(memory)));
  }
  usage_.in_use += in_use_.at(block).first;
  usage_.peak = std::max(usage_.peak, usage_.in_use);
  return block;
}

// A kept block of at least `size` bytes, now in in_use_; nullptr where none fits well.
void* CachingAllocator::take_kept(Index size) {
  const auto found = kept_.lower_bound(size);
  if (found == kept_.end() || found->first > size + size / 4) return nullptr;
  void* block = found->second.get();
  in_use_.emplace(block, std::make_pair(found->first, std::move(found->second)));
  usage_.kept -= found->first;
  kept_.erase(found);
  return block;
}

Memory CachingAllocator::fresh(Index size) {
  const Index peak = std::max(usage_.peak, usage_.in_use + size);
  const auto give_back = [this] {
    kept_.clear();
    usage_.kept = 0;
  };
  if (usage_.in_use + usage_.kept + size > 2 * peak + 64 * mebibyte) give_back();
  try {
    return allocate_memory(static_cast<std::size_t>(size));
  } catch (const std::bad_alloc&) {
    give_back();
  }
  try {
    return allocate_memory(static_cast<std::size_t>(size));
  } catch (const std::bad_alloc&) {
    fail("out of memory: ", size, " bytes were asked for, tensors use ", usage_.in_use,
         "; take a smaller batch");
  }
}

void CachingAllocator::release(void* block, Index) {
  const std::lock_guard lock(mutex_);
  const auto found = in_use_.find(block);
  auto& [size, memory] = found->second;
  usage_.in_use -= size;
  usage_.kept += size;
  kept_.emplace(size, std::move(memory));
  in_use_.erase(found);
}

CachingAllocator::Usage CachingAllocator::usage() const {
  const std::lock_guard lock(mutex_);
  return usage_;
}

void CachingAllocator::release_kept() {
  const std::lock_guard lock(mutex_);
  kept_.clear();
  usage_.kept = 0;
}

CachingAllocator& caching_allocator() {
  // Never destroyed: tensors in static variables may outlive any other static variable.
  static CachingAllocator& instance = *new CachingAllocator;
  return instance;
}

}  // namespace chalk::cpu

chalk::Allocator& chalk::cpu_allocator() {
  return cpu::caching_allocator();
}
