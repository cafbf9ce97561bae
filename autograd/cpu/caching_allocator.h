// The CPU's memory: blocks that tensors return are kept and handed out again.
//
// A training step allocates what the step before it released. Fresh memory would have to be mapped
// and zeroed by the system, page by page: a tenth of the step.
//
// Memory comes from the system in regions, of which blocks are cut. A returned block becomes one
// with the free memory beside it: so the backward pass, whose maps grow from layer to layer, finds
// room where the forward pass left many small ones.
#pragma once

#include <map>
#include <mutex>

#include "autograd/cpu/scratch.h"
#include "autograd/storage.h"

namespace chalk::cpu {

// Owns all of its memory, that in use too. May be called from any thread.
class CachingAllocator final : public Allocator {
 public:
  struct Usage {
    Index in_use, peak;  // bytes in blocks handed out: now, and at most so far
    Index regions;       // bytes taken from the system, which gives no page before it is used
  };

  // Where region_size is 0 nothing is kept: every block is a piece of memory by itself.
  explicit CachingAllocator(Index region_size) : region_size_(region_size) {}

  // Cut from the first free piece that is large enough, else from a new region; before that,
  // regions without a block in use go back to the system.
  void* allocate(Index bytes) override;
  void release(void* block, Index bytes) override;

  Usage usage() const;

 private:
  using Pieces = std::map<std::byte*, Index>;  // sizes, by where they begin

  Index block_size(Index bytes) const;
  Pieces::iterator first_free(Index size);
  Pieces::iterator add_region(Index size);
  void give_back();

  struct Region {
    Memory memory;
    Index size;
  };
  const Index region_size_;
  mutable std::mutex mutex_;
  std::map<std::byte*, Region> regions_;  // by where they begin
  Pieces free_;
  Usage usage_ = {0, 0, 0};  // but for the regions
};

// The one behind every tensor on the CPU.
CachingAllocator& caching_allocator();

}  // namespace chalk::cpu
