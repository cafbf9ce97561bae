// Memory of the current device that a call needs besides its tensors.
#pragma once

#include <vector>

#include "autograd/devices.h"
#include "cuda/runtime.h"

namespace chalk::cuda {

// Gives its memory back when it ends. The kernels that use it may still be running then: what is
// handed out next is written by later kernels of the same stream.
class Workspace {
 public:
  Workspace() : allocator_(cuda_allocator(current_device())) {}
  ~Workspace() {
    for (const auto& [block, bytes] : blocks_)
      allocator_.release(block, bytes);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // Room for `count` elements, uninitialised, for kernels only.
  template <typename T>
  T* take(Index count) {
    const Index bytes = count * static_cast<Index>(sizeof(T));
    void* block = allocator_.allocate(bytes);
    blocks_.emplace_back(block, bytes);
    return static_cast<T*>(block);
  }

 private:
  Allocator& allocator_;
  std::vector<std::pair<void*, Index>> blocks_;
};

}  // namespace chalk::cuda
