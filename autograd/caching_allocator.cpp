#include "autograd/caching_allocator.h"

#include <algorithm>

#include "autograd/check.h"

namespace chalk {

CachingAllocator::CachingAllocator(Device device, System& system, const Options& options)
    : device_(device), system_(system), options_(options) {}

CachingAllocator::~CachingAllocator() {
  for (const auto& [region, size] : regions_)
    system_.give_back(region, size);
}

// At least one byte: every block has an address of its own. Whole multiples of the alignment, where
// another block may begin behind it.
Index CachingAllocator::block_size(Index bytes) const {
  const Index least = std::max<Index>(bytes, 1), unit = options_.alignment;
  return options_.region_size == 0 ? least : (least + unit - 1) / unit * unit;
}

void* CachingAllocator::allocate(Index bytes) {
  constexpr Index most = Index{1} << 60;
  check(bytes >= 0 && bytes <= most, "out of memory on ", to_string(device_), ": ", bytes,
        " bytes can't be allocated");
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
  give_back_regions();
  Index bytes = std::max(size, options_.region_size);
  void* region = system_.take(bytes);
  while (region == nullptr && bytes > size) {
    bytes = std::max(size, bytes / 2);
    region = system_.take(bytes);
  }
  check(region != nullptr, "out of memory on ", to_string(device_), ": ", size,
        " bytes were asked for, tensors use ", usage_.in_use, system_.describe(),
        "; take a smaller batch or smaller images");
  usage_.regions += bytes;
  regions_.emplace(static_cast<std::byte*>(region), bytes);
  return free_.emplace(static_cast<std::byte*>(region), bytes).first;
}

void CachingAllocator::release(void* block, Index bytes) {
  const std::lock_guard lock(mutex_);
  const Index size = block_size(bytes);
  usage_.in_use -= size;
  const auto piece = free_.emplace(static_cast<std::byte*>(block), size).first;
  if (options_.region_size == 0) return give_back_regions();
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
void CachingAllocator::give_back_regions() {
  if (!options_.gives_back) return;
  std::erase_if(free_, [this](const auto& piece) {
    const auto region = regions_.find(piece.first);
    if (region == regions_.end() || piece.second < region->second) return false;
    usage_.regions -= region->second;
    system_.give_back(region->first, region->second);
    regions_.erase(region);
    return true;
  });
}

CachingAllocator::Usage CachingAllocator::usage() const {
  const std::lock_guard lock(mutex_);
  return usage_;
}

bool CachingAllocator::owns(const void* address) const {
  const std::lock_guard lock(mutex_);
  const auto* byte = static_cast<const std::byte*>(address);
  auto region = regions_.upper_bound(const_cast<std::byte*>(byte));
  return region != regions_.begin() && byte < (--region)->first + region->second;
}

}  // namespace chalk
