// Memory of the current device for tests that launch kernels of their own.
#pragma once

#include <vector>

#include "cuda/gpu.h"

namespace chalk::cuda {

template <typename T>
class DeviceValues {
 public:
  explicit DeviceValues(const std::vector<T>& values) : DeviceValues(values.size()) {
    write(values);
  }
  explicit DeviceValues(std::size_t count) : count_(count) {
    void* memory = nullptr;
    check_cuda(cudaMalloc(&memory, count * sizeof(T)));
    memory_ = static_cast<T*>(memory);
  }
  ~DeviceValues() { cudaFree(memory_); }
  DeviceValues(const DeviceValues&) = delete;
  DeviceValues& operator=(const DeviceValues&) = delete;

  T* data() const { return memory_; }

  void write(const std::vector<T>& values) {
    check_cuda(cudaMemcpyAsync(memory_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice,
                               stream()));
    check_cuda(cudaStreamSynchronize(stream()));
  }

  std::vector<T> read() const {
    std::vector<T> values(count_);
    check_cuda(cudaMemcpyAsync(values.data(), memory_, count_ * sizeof(T), cudaMemcpyDeviceToHost,
                               stream()));
    check_cuda(cudaStreamSynchronize(stream()));
    return values;
  }

 private:
  std::size_t count_;
  T* memory_ = nullptr;
};

}  // namespace chalk::cuda
