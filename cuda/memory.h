// The memory of a CUDA device: a caching allocator over cudaMalloc, pools of their own for what is
// recorded, and copies to and from the host.
#pragma once

#include <memory>
#include <vector>

#include "autograd/caching_allocator.h"
#include "cuda/runtime.h"

namespace chalk::cuda {

// Gets bytes of the host to the device beside the work of its stream: they are copied to pinned
// memory, from there by a stream of their own to a staging block, and on the device's stream to
// where they belong. The caller's memory is free at once, and the next batch travels while the step
// before it computes. Two slots take turns.
class Uploads {
 public:
  Uploads();
  void copy(const void* from, void* to, std::size_t bytes);

 private:
  static constexpr std::size_t slot_bytes = std::size_t{8} << 20;
  struct Slot {
    void *pinned, *staging;
    cudaEvent_t uploaded, taken;  // staging has it; the device's stream has taken it from there
  };
  cudaStream_t stream_;
  Slot slots_[2];
  int next_ = 0;
};

class CudaAllocator final : public Allocator {
 public:
  explicit CudaAllocator(int index);

  void* allocate(Index bytes) override;
  void release(void* block, Index bytes) override;

  // Waits only where the host receives.
  void copy(const void* from, void* to, Index bytes) override;

  // While a Pool lives and is in use, what is allocated comes from its own memory, of which nobody
  // else gets a block.
  using Pool = std::shared_ptr<CachingAllocator>;
  Pool new_pool();
  void use(const Pool& pool) { used_ = pool ? pool : pools_.front(); }

  Index peak() const;  // bytes in use at most, of each pool at its own time

 private:
  bool owns(const void* block) const;

  const int index_;
  std::unique_ptr<System> system_;
  std::vector<Pool> pools_;  // the first is everybody's
  Pool used_;
  std::unique_ptr<Uploads> uploads_;  // made with the first copy
};

// That of a device, which must exist.
CudaAllocator& device_allocator(int index);

}  // namespace chalk::cuda
