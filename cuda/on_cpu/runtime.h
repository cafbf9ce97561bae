// The part of the CUDA runtime that chalk uses, on the CPU: memory, streams, events, graphs.
//
// There are two devices. Their memory is the machine's, but closed: host code that touches it dies
// with a message, while no kernel runs. Fresh memory is full of NaN. With EMU_DEFER=1 a stream does
// nothing until someone waits for it, as late as a GPU might.
#pragma once

#include <cstddef>
#include <functional>
#include <type_traits>

#include "cuda/on_cpu/block.h"

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
};
enum cudaMemcpyKind {
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
inline constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2,
                          cudaEventDefault = 0;

namespace chalk::cuda::on_cpu {
struct Stream;
struct Event;
struct Graph;
}  // namespace chalk::cuda::on_cpu
using cudaStream_t = chalk::cuda::on_cpu::Stream*;
using cudaEvent_t = chalk::cuda::on_cpu::Event*;
using cudaGraph_t = chalk::cuda::on_cpu::Graph*;
using cudaGraphExec_t = chalk::cuda::on_cpu::Graph*;
struct cudaDeviceProp {
  char name[256];
  std::size_t totalGlobalMem;
};

// Each as NVIDIA's documentation says.
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total);
cudaError_t cudaDeviceSynchronize();

cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
const char* cudaGetErrorString(cudaError_t status);

cudaError_t cudaMalloc(void** memory, std::size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMallocHost(void** memory, std::size_t bytes);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaEventDestroy(cudaEvent_t event);

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, std::nullptr_t, std::size_t* count);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

namespace chalk::cuda::on_cpu {

inline constexpr int devices = 2;

// Whether all these bytes are memory of the current device.
bool on_device(const void* memory, std::size_t bytes = 1);

// Does `work` on the stream: now, later (EMU_DEFER), or with every launch of the graph that is
// being captured. Device memory is open meanwhile.
void submit(Stream* stream, std::function<void()> work);

cudaError_t set_error(cudaError_t status);

// The dynamic shared memory of the block that runs: full of NaN at its start.
void* block_shared_memory();

// How many kernels were launched so far, captured ones at every replay.
long launches();

struct Kernel {
  const void* function;  // its identity
  dim3 grid, block;
  std::size_t shared;
  std::function<void()> thread;  // what one thread does
};
bool can_launch(const Kernel& kernel, const Stream& stream);
void refuse_host_pointer();
void run(const Kernel& kernel);

// kernel<<<grid, block, shared, stream>>>(arguments...), which are copied now. No host pointer may
// be among them.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
            cudaStream_t stream, const Arguments&... arguments) {
  [[maybe_unused]] const auto is_device_memory = [](const auto& value) {
    if constexpr (std::is_pointer_v<std::decay_t<decltype(value)>>)
      return value == nullptr || on_device(value);
    else
      return true;
  };
  const bool all = (is_device_memory(static_cast<Parameters>(arguments)) && ...);
  const Kernel work{
      reinterpret_cast<const void*>(kernel), grid, block, shared,
      [kernel, ... values = static_cast<Parameters>(arguments)] { kernel(values...); }};
  if (!all)
    refuse_host_pointer();
  else if (can_launch(work, *stream))
    submit(stream, [work] { run(work); });
}

}  // namespace chalk::cuda::on_cpu

template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute,
                                 int value) {
  cudaError_t set_shared_memory(const void* function, cudaFuncAttribute attribute, int value);
  return set_shared_memory(reinterpret_cast<const void*>(kernel), attribute, value);
}
