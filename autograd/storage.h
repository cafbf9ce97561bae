// Storage: a block of memory on a device, shared by the tensors that view it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "autograd/shape.h"

namespace chalk {

// Where elements lie: on the CPU, or on the GPU of that number.
struct Device {
  enum class Type { cpu, cuda };
  Type type;
  int index;

  static const Device cpu, cuda;  // cuda: the first GPU

  // From "cpu", "cuda" or "cuda:1"; throws Error for other names.
  static Device named(std::string_view name);

  bool operator==(const Device&) const = default;
};
inline constexpr Device Device::cpu{Device::Type::cpu, 0};
inline constexpr Device Device::cuda{Device::Type::cuda, 0};

std::string to_string(Device device);  // "cpu", "cuda:0"

// Hands out blocks of one device's memory. Blocks that come back are kept and handed out again,
// since a training step asks for the same sizes as the step before.
class Allocator {
 public:
  virtual ~Allocator() = default;

  // At least `bytes` bytes, aligned to 64 at least, uninitialised. Throws Error when memory is
  // exhausted.
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

  // The address, for the device's backend: other code can't read there. Tensor::data() sees to
  // that.
  void* data() const { return data_; }
  Index bytes() const { return bytes_; }
  Device device() const { return device_; }

  std::uint64_t version = 0;

 private:
  Device device_;
  Allocator& allocator_;
  Index bytes_;
  void* data_;
};

}  // namespace chalk
