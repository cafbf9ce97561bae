// Stands in for the folder cuda/ in a build without it.
#include "autograd/check.h"
#include "autograd/devices.h"

namespace chalk {

[[noreturn]] static void fail_without_cuda() {
  fail("chalk was built without CUDA; use Device::cpu");
}

Backend& cuda_backend(DType, int) {
  fail_without_cuda();
}

Allocator& cuda_allocator(int) {
  fail_without_cuda();
}

Tensor cuda_augment(const Tensor&, const std::vector<AugmentParameters>&) {
  fail_without_cuda();
}

bool cuda_available() {
  return false;
}

void cuda_check_device(int) {
  fail_without_cuda();
}

std::string cuda_name(int index) {
  return "cuda:" + std::to_string(index);
}

std::string cuda_description(int) {
  fail_without_cuda();
}

Index cuda_peak_memory(int) {
  fail_without_cuda();
}

std::unique_ptr<Recorder> make_recorder(Device) {
  return nullptr;
}

}  // namespace chalk
