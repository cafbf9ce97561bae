#include "autograd/cpu/caching_allocator.h"

#include <algorithm>

#include "autograd/check.h"
#include "autograd/devices.h"

namespace chalk::cpu {

// At least one byte: every block has an address of its own. Whole cache lines, where another block
// may begin behind it.
Index CachingAllocator::block_size(Index bytes) const {
  const Index least = std::max<Index>(bytes, 1);
  return region_size_ == 0 ? least : (least + 63) / 64 * 64;
}

void* CachingAllocator::allocate(Index bytes) {
  constexpr Index most = Index{1} << 60;
  check(bytes >= 0 && bytes <= most, "out of memory: ", bytes, " bytes can't be allocated");
  const Index size = block_size(bytes);
  const std::lock_guard lock(mutex_);
  auto piece = first_free(size);
  if (piece == free_.end()) piece = add_region(size);
  const auto [block, free] = *piece;
  free_.erase(piece);
  if (free > size) free_.emplace(block + size, free - size);
  usage_.in_use += size;
  usage_.peak = std::max(usage_.peak, usage_.in_use);
  return block;
}

// The first free piece of at least `size` bytes, or free_.end().
CachingAllocator::Pieces::iterator CachingAllocator::first_free(Index size) {
  return std::find_if(free_.begin(), free_.end(),
                      [size](const auto& piece) { return piece.second >= size; });
}

// A region with room for a block of `size` bytes, free as a whole.
CachingAllocator::Pieces::iterator CachingAllocator::add_region(Index size) {
  give_back();
  Region region{nullptr, std::max(size, region_size_)};
  try {
    region.memory = allocate_memory(static_cast<std::size_t>(region.size));
  } catch (const Error&) {  // then what is needed, and no more
    region.size = size;
  }
  try {
    if (!region.memory) region.memory = allocate_memory(static_cast<std::size_t>(size));
  } catch (const Error&) {
    fail("out of memory: ", size, " bytes were asked for, tensors use ", usage_.in_use,
         "; take a smaller batch");
  }
  std::byte* begin = region.memory.get();
  const auto piece = free_.emplace(begin, region.size).first;
  regions_.emplace(begin, std::move(region));
  return piece;
}

void CachingAllocator::release(void* block, Index bytes) {
  const std::lock_guard lock(mutex_);
  const Index size = block_size(bytes);
  usage_.in_use -= size;
  if (region_size_ == 0) {
    regions_.erase(static_cast<std::byte*>(block));
    return;
  }
  const auto piece = free_.emplace(static_cast<std::byte*>(block), size).first;
  // Pieces side by side become one, if they are of the same region.
  const auto join = [this](auto left, auto right) {
    if (left->first + left->second != right->first || regions_.contains(right->first)) return;
    left->second += right->second;
    free_.erase(right);
  };
  if (const auto next = std::next(piece); next != free_.end()) join(piece, next);
  if (piece != free_.begin()) join(std::prev(piece), piece);
}

// Gives the regions without a block in use back to the system.
void CachingAllocator::give_back() {
  std::erase_if(regions_, [this](const auto& item) {
    const auto& [begin, region] = item;
    const auto piece = free_.find(begin);
    if (piece == free_.end() || piece->second < region.size) return false;
    free_.erase(piece);
    return true;
  });
}

CachingAllocator::Usage CachingAllocator::usage() const {
  const std::lock_guard lock(mutex_);
  Usage usage = usage_;
  for (const auto& [begin, region] : regions_)
    usage.regions += region.size;
  return usage;
}

CachingAllocator& caching_allocator() {
  constexpr Index region_size = address_sanitizer ? 0 : Index{1} << 30;  // room for many tensors
  // Never destroyed: tensors in static variables may outlive any other static variable.
  static CachingAllocator& instance = *new CachingAllocator(region_size);
  return instance;
}

}  // namespace chalk::cpu

chalk::Allocator& chalk::cpu_allocator() {
  return cpu::caching_allocator();
}
