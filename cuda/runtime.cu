#include <cstdlib>
#include <limits>
#include <string_view>

#include "autograd/check.h"
#include "autograd/devices.h"
#include "cuda/gpu.h"
#include "cuda/runtime.h"

namespace chalk::cuda {
namespace {

// How many devices there are; 0 where there is no driver or it is too old.
int device_count() {
  static const int count = [] {
    int found = 0;
    const bool usable = cudaGetDeviceCount(&found) == cudaSuccess;
    cudaGetLastError();  // that there is none is no error
    return usable ? found : 0;
  }();
  return count;
}

// What belongs to a device for good.
struct DeviceState {
  cudaStream_t stream = nullptr;
  cublasHandle_t cublas = nullptr;
  int multiprocessors = 0, shared_memory = 0;
  std::uint64_t* random_base = nullptr;

  explicit DeviceState(int index) {
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, index));
    check_cuda(
        cudaDeviceGetAttribute(&shared_memory, cudaDevAttrMaxSharedMemoryPerBlockOptin, index));
    // Memory of its own: so cuBLAS allocates nothing while a step is recorded, and its results are
    // the same bits every time.
    constexpr std::size_t workspace_bytes = std::size_t{32} << 20;
    void *workspace = nullptr, *base = nullptr;
    check_cuda(cudaMalloc(&workspace, workspace_bytes));
    check_cuda(cudaMalloc(&base, sizeof *random_base));
    check_cublas(cublasCreate(&cublas));
    check_cublas(cublasSetStream(cublas, stream));
    check_cublas(cublasSetWorkspace(cublas, workspace, workspace_bytes));
    random_base = static_cast<std::uint64_t*>(base);
    const std::uint64_t none = 0;
    check_cuda(cudaMemcpyAsync(random_base, &none, sizeof none, cudaMemcpyHostToDevice, stream));
    check_cuda(cudaStreamSynchronize(stream));
  }
};

// Never destroyed: tensors in static variables may outlive any other static variable.
const DeviceState& state() {
  static auto& states =
      *new std::vector<std::unique_ptr<DeviceState>>(static_cast<std::size_t>(device_count()));
  auto& state = states.at(static_cast<std::size_t>(current_device()));
  if (state == nullptr) state = std::make_unique<DeviceState>(current_device());
  return *state;
}

thread_local const Call* innermost_call = nullptr;

[[noreturn]] void fail_call(const char* library, const char* problem, bool later) {
  fail(Call::describe(), ": ", library, " says: ", problem,
       later ? "; if an earlier kernel is the cause, CHALK_CUDA_SYNC=1 shows which" : "");
}

}  // namespace

// ---- devices ----

int current_device() {
  int index = 0;
  check_cuda(cudaGetDevice(&index));
  return index;
}

CurrentDevice::CurrentDevice(int index) : before_(current_device()) {
  if (index != before_) check_cuda(cudaSetDevice(index));
}

CurrentDevice::~CurrentDevice() {
  cudaSetDevice(before_);
}

cudaStream_t stream() {
  return state().stream;
}
cublasHandle_t cublas() {
  return state().cublas;
}
int multiprocessors() {
  return state().multiprocessors;
}
std::size_t shared_memory_of_block() {
  return static_cast<std::size_t>(state().shared_memory);
}
std::uint64_t* random_base() {
  return state().random_base;
}

// ---- calls and errors ----

Call::Call(int device, const char* operation, std::initializer_list<const Tensor*> tensors)
    : device_(device),
      index_(device),
      operation_(operation),
      tensors_(tensors),
      outer_(innermost_call) {
  innermost_call = this;
}

Call::~Call() {
  innermost_call = outer_;
}

std::string Call::describe() {
  const Call* call = innermost_call;
  if (call == nullptr) return "cuda";
  std::string text = call->operation_, separator = " of ";
  for (const Tensor* tensor : call->tensors_) {
    if (!tensor->defined()) continue;
    text += separator + chalk::to_string(tensor->shape());
    separator = ", ";
  }
  return text + " on " + chalk::to_string(Device{Device::Type::cuda, call->index_});
}

void check_cuda(cudaError_t status) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  fail_call("CUDA", cudaGetErrorString(status), true);
}

void check_cublas(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS) fail_call("cuBLAS", cublasGetStatusString(status), false);
}

void check_launch() {
  check_cuda(cudaPeekAtLastError());
  static const bool wait = [] {
    const char* chosen = std::getenv("CHALK_CUDA_SYNC");
    return chosen != nullptr && std::string_view(chosen) == "1";
  }();
  if (wait) check_cuda(cudaStreamSynchronize(stream()));
}

int to_int(Index n) {
  if (n > std::numeric_limits<int>::max())
    fail(Call::describe(), ": ", n,
         " is more than a kernel can count (2^31 - 1); take a smaller batch");
  return static_cast<int>(n);
}

}  // namespace chalk::cuda

// ---- what chalk asks of a device, see autograd/devices.h ----

bool chalk::cuda_available() {
  return cuda::device_count() > 0;
}

void chalk::cuda_check_device(int index) {
  check(index < cuda::device_count(), "there is no device ", to_string({Device::Type::cuda, index}),
        cuda::device_count() == 0 ? ": no GPU, or no driver for this CUDA; see nvidia-smi"
                                  : "; this machine has " + std::to_string(cuda::device_count()));
}

std::string chalk::cuda_description(int index) {
  cuda_check_device(index);
  cudaDeviceProp properties;
  cuda::check_cuda(cudaGetDeviceProperties(&properties, index));
  return std::string(properties.name) + ", " +
         std::to_string((properties.totalGlobalMem + (1 << 29)) >> 30) + " GiB";
}
