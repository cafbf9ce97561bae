#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string_view>

#include "autograd/check.h"
#include "autograd/devices.h"
#include "cuda/elementwise.cuh"
#include "cuda/memory.h"

namespace chalk::cuda {

// ---- copies from the host ----

Uploads::Uploads() {
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  for (Slot& slot : slots_) {
    check_cuda(cudaMallocHost(&slot.pinned, slot_bytes));
    check_cuda(cudaMalloc(&slot.staging, slot_bytes));
    check_cuda(cudaEventCreateWithFlags(&slot.uploaded, cudaEventDisableTiming));
    check_cuda(cudaEventCreateWithFlags(&slot.taken, cudaEventDisableTiming));
  }
}

void Uploads::copy(const void* from, void* to, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += slot_bytes) {
    Slot& slot = slots_[next_];
    next_ ^= 1;
    const std::size_t part = std::min(slot_bytes, bytes - at);
    check_cuda(cudaEventSynchronize(slot.uploaded));
    std::memcpy(slot.pinned, static_cast<const char*>(from) + at, part);
    check_cuda(cudaStreamWaitEvent(stream_, slot.taken, 0));
    check_cuda(cudaMemcpyAsync(slot.staging, slot.pinned, part, cudaMemcpyHostToDevice, stream_));
    check_cuda(cudaEventRecord(slot.uploaded, stream_));
    check_cuda(cudaStreamWaitEvent(stream(), slot.uploaded, 0));
    check_cuda(cudaMemcpyAsync(static_cast<char*>(to) + at, slot.staging, part,
                               cudaMemcpyDeviceToDevice, stream()));
    check_cuda(cudaEventRecord(slot.taken, stream()));
  }
}

// ---- the allocator ----

namespace {

class DeviceMemory final : public System {
 public:
  void* take(Index bytes) override {
    void* memory = nullptr;
    if (cudaMalloc(&memory, static_cast<std::size_t>(bytes)) == cudaSuccess) return memory;
    cudaGetLastError();  // the allocator asks for less, or says what is the matter
    return nullptr;
  }

  void give_back(void* region, Index) override { cudaFree(region); }

  std::string describe() override {
    constexpr double mebibyte = 1 << 20;
    std::size_t free = 0, total = 0;
    check_cuda(cudaMemGetInfo(&free, &total));
    std::ostringstream text;
    text << "; of the device's " << static_cast<Index>(static_cast<double>(total) / mebibyte)
         << " MiB " << static_cast<Index>(static_cast<double>(free) / mebibyte) << " are free";
    return text.str();
  }
};

// For tests: what is handed out is NaN, as float and as double, so that a result which a kernel
// left out is noticed.
void poison_if_asked(void* block, Index bytes) {
  static const bool asked = [] {
    const char* chosen = std::getenv("CHALK_CUDA_POISON");
    return chosen != nullptr && std::string_view(chosen) == "1";
  }();
  if (asked) fill(bytes / 4, std::uint32_t{0x7ff80000}, static_cast<std::uint32_t*>(block));
}

}  // namespace

CudaAllocator::CudaAllocator(int index) : index_(index), system_(new DeviceMemory) {
  use(new_pool());
}

CudaAllocator::Pool CudaAllocator::new_pool() {
  // Alignment: what CUDA's own allocations have. Nothing goes back to the driver from a pool whose
  // addresses a recording knows, so such a pool is always cut into blocks.
  const bool recorded = !pools_.empty();
  constexpr std::int64_t least = std::int64_t{64} << 20;
  const CachingAllocator::Options options{
      .region_size = recorded ? std::max(least, region_size()) : region_size(),
      .alignment = 256,
      .gives_back = !recorded};
  // Pools that were used up and left go now that a new one comes.
  std::erase_if(pools_, [this](const Pool& pool) {
    return pool.use_count() == 1 && pool != pools_.front() && pool->usage().in_use == 0;
  });
  pools_.push_back(
      std::make_shared<CachingAllocator>(Device{Device::Type::cuda, index_}, *system_, options));
  return pools_.back();
}

void* CudaAllocator::allocate(Index bytes) {
  const CurrentDevice current(index_);
  void* block = used_->allocate(bytes);
  poison_if_asked(block, bytes);
  return block;
}

void CudaAllocator::release(void* block, Index bytes) {
  const CurrentDevice current(index_);
  for (const Pool& pool : pools_)
    if (pool->owns(block)) return pool->release(block, bytes);
}

Index CudaAllocator::peak() const {
  return std::accumulate(pools_.begin(), pools_.end(), Index{0},
                         [](Index sum, const Pool& pool) { return sum + pool->usage().peak; });
}

bool CudaAllocator::owns(const void* block) const {
  return std::any_of(pools_.begin(), pools_.end(),
                     [block](const Pool& pool) { return pool->owns(block); });
}

void CudaAllocator::copy(const void* from, void* to, Index bytes) {
  if (bytes == 0) return;
  const CurrentDevice current(index_);
  const auto size = static_cast<std::size_t>(bytes);
  const bool from_here = owns(from);
  if (from_here && owns(to))
    return check_cuda(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice, stream()));
  if (recording())
    fail(Call::describe(),
         ": a step that is being recorded can't copy from or to the CPU; do that outside of it");
  if (from_here) {
    check_cuda(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToHost, stream()));
    return check_cuda(cudaStreamSynchronize(stream()));
  }
  if (!uploads_) uploads_ = std::make_unique<Uploads>();
  uploads_->copy(from, to, size);
}

CudaAllocator& device_allocator(int index) {
  cuda_check_device(index);
  // Never destroyed: tensors in static variables may outlive any other static variable.
  static auto& allocators = *new std::vector<std::unique_ptr<CudaAllocator>>;
  const auto i = static_cast<std::size_t>(index);
  if (allocators.size() <= i) allocators.resize(i + 1);
  if (!allocators[i]) allocators[i] = std::make_unique<CudaAllocator>(index);
  return *allocators[i];
}

}  // namespace chalk::cuda

chalk::Allocator& chalk::cuda_allocator(int index) {
  return cuda::device_allocator(index);
}

chalk::Index chalk::cuda_peak_memory(int index) {
  return cuda::device_allocator(index).peak();
}
