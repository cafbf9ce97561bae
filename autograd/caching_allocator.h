// Memory that is kept, for every device: blocks that tensors return are handed out again.
//
// A training step allocates what the step before it released. Fresh memory is slow: the CPU's would
// have to be mapped and zeroed by the system, page by page, which takes a tenth of the step.
//
// Memory comes from the system in regions, of which blocks are cut. A returned block becomes one
// with the free memory beside it: so the backward pass, whose maps grow from layer to layer, finds
// room where the forward pass left many small ones.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "autograd/storage.h"

namespace chalk {

// Where regions come from: the operating system, or a device's driver.
class System {
 public:
  virtual ~System() = default;

  // Memory that begins at a multiple of the allocator's alignment; nullptr where there is too
  // little.
  virtual void* take(Index bytes) = 0;
  virtual void give_back(void* region, Index bytes) = 0;

  // How much it has left, for the message of an allocator that gets nothing from it; begins with
  // "; ".
  virtual std::string describe() { return ""; }
};

// May be called from any thread.
class CachingAllocator : public Allocator {
 public:
  struct Options {
    // Of a region, with room for many tensors. 0: nothing is kept, every block is a region.
    Index region_size = Index{1} << 30;
    Index alignment = 64;    // where blocks begin: at multiples of this many bytes
    bool gives_back = true;  // regions without a block in use, before it takes another
  };
  struct Usage {
    Index in_use, peak;  // bytes in blocks handed out: now, and at most so far
    Index regions;       // bytes taken from the system; the CPU's gives no page before it is used
  };

  // `device` is for messages.
  CachingAllocator(Device device, System& system, const Options& options);
  ~CachingAllocator() override;  // all memory, that in use too, goes back

  // Cut from the first free piece that is large enough, else from a new region. Where the system is
  // short of memory, that may be smaller, down to the block.
  void* allocate(Index bytes) override;
  void release(void* block, Index bytes) override;

  Usage usage() const;

  // Whether the address lies in one of its regions.
  bool owns(const void* address) const;

 private:
  using Pieces = std::map<std::byte*, Index>;  // sizes, by where they begin

  Index block_size(Index bytes) const;
  Pieces::iterator first_free(Index size);
  Pieces::iterator add_region(Index size);
  void give_back_regions();

  const Device device_;
  System& system_;
  const Options options_;
  mutable std::mutex mutex_;
  Pieces regions_, free_;
  Usage usage_ = {0, 0, 0};
};

}  // namespace chalk
