// Storage: a block of memory on a device, shared by the tensors that view it.
#pragma once

#include <cstdint>

#include "autograd/shape.h"

namespace chalk {

enum class Device { cpu, cuda };

const char* to_string(Device device);

// Hands out blocks of one device's memory. Blocks that come back are kept and handed out again,
// since a training step asks for the same sizes as the step before.
class Allocator {
 public:
  virtual ~Allocator() = default;

  // At least `bytes` bytes, aligned to 64, uninitialised. Throws Error when memory is exhausted.
  virtual void* allocate(Index bytes) = 0;

  // Takes back a block that allocate(bytes) returned.
  virtual void release(void* block, Index bytes) = 0;

  // Copies bytes; each side may be this device's memory or the CPU's.
  virtual void copy(const void* from, void* to, Index bytes);
};

Allocator& allocator(Device device);

// Owns its block. `version` counts the changes of the elements after they were first written:
// a backward pass compares it to know that what it saved is still what it was.
class Storage {
 public:
  Storage(Index bytes, Device device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  Index bytes() const { return bytes_; }
  Device device() const { return device_; }

  std::uint64_t version = 0;

 private:
  void* data_;
  Index bytes_;
  Device device_;
};

}  // namespace chalk
