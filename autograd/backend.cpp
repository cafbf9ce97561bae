#include "autograd/backend.h"

#include "autograd/check.h"
#include "autograd/devices.h"

namespace chalk {

Backend& backend(Device device, DType dtype) {
  check(dtype == DType::float32 || dtype == DType::float64,
        "operations work on float32 and float64 tensors, not on ", to_string(dtype),
        "; convert by to()");
  return device == Device::cpu ? cpu_backend(dtype) : cuda_backend(dtype, device.index);
}

Backend& backend_for(const Tensor& tensor) {
  return backend(tensor.device(), tensor.dtype());
}

Allocator& allocator(Device device) {
  return device == Device::cpu ? cpu_allocator() : cuda_allocator(device.index);
}

}  // namespace chalk
