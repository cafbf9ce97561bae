// The CPU's memory: blocks that tensors return are kept and handed out again.
//
// A training step allocates what the step before it released. Fresh memory would have to be mapped
// and zeroed by the system, page by page: a tenth of the step.
#pragma once

#include <map>
#include <mutex>
#include <unordered_map>

#include "autograd/cpu/scratch.h"
#include "autograd/storage.h"

namespace chalk::cpu {

// Owns all of its blocks, those in use too. May be called from any thread.
class CachingAllocator final : public Allocator {
 public:
  struct Usage {
    Index in_use, peak;  // bytes in blocks handed out: now, and at most so far
    Index kept;          // bytes in blocks waiting to be handed out again
  };

  // The smallest kept block that fits without wasting more than a quarter, else fresh memory, in
  // huge pages from 2 MiB on where the system has them. Before memory would grow beyond
  // twice the peak use + 64 MiB, and before failing, kept blocks are given back to the system.
  void* allocate(Index bytes) override;
  void release(void* block, Index bytes) override;

  Usage usage() const;

  // Gives the kept blocks back to the system.
  void release_kept();

 private:
  void* take_kept(Index bytes);
  Memory fresh(Index bytes);

  mutable std::mutex mutex_;
  std::multimap<Index, Memory> kept_;                           // by size
  std::unordered_map<void*, std::pair<Index, Memory>> in_use_;  // with the block's size
  Usage usage_ = {0, 0, 0};
};

// The one behind every tensor on the CPU.
CachingAllocator& caching_allocator();

}  // namespace chalk::cpu
