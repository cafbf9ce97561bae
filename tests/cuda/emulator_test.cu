// The emulator's own behaviour: its runtime, limits, graphs, events, orders. What ends a program or
// a device is in planted/.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "autograd/check.h"
#include "tests/cuda/device_values.h"

using namespace chalk::cuda;

namespace {

__global__ void add_kernel(float by, float* x) {
  x[threadIdx.x] += by;
}

__global__ void copy_kernel(const float* from, float* to) {
  to[threadIdx.x] = from[threadIdx.x];
}

__global__ void nothing_kernel() {}

__global__ void shared_kernel(int words, float* out) {
  *out = dynamic_shared<float>()[words - 1];
}

__global__ void unasked_kernel() {}

// What the target of a copy holds before its wait.
__global__ void early_kernel(const float* from, float* to) {
  float* copy = dynamic_shared<float>();
  *copy = -1;
  cp_async4(copy, from);
  cp_async_commit();
  *to = *copy;
  cp_async_wait<0>();
}

__global__ void order_kernel(int* next, int* threads) {
  threads[blockIdx.x * blockDim.x + threadIdx.x] = (*next)++;
}

// Launches without launch() of gpu.h, which asks for shared memory by itself.
cudaError_t status_of(dim3 grid, dim3 block, std::size_t shared = 0, cudaStream_t on = stream()) {
  on_cpu::launch(unasked_kernel, grid, block, shared, on);
  return cudaGetLastError();
}

// What `work` does to x becomes a graph.
template <typename Work>
cudaGraphExec_t record(const Work& work) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  check_cuda(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed));
  work();
  check_cuda(cudaStreamEndCapture(stream(), &graph));
  check_cuda(cudaGraphInstantiate(&executable, graph, 0));
  check_cuda(cudaGraphDestroy(graph));
  return executable;
}

}  // namespace

TEST_CASE("launches beyond a GPU's limits are refused") {
  CHECK(status_of(1, 1024) == cudaSuccess);
  CHECK(status_of(1, 1025) == cudaErrorInvalidConfiguration);
  CHECK(status_of(1, dim3(32, 32)) == cudaSuccess);
  CHECK(status_of(1, dim3(1, 1, 65)) == cudaErrorInvalidConfiguration);
  CHECK(status_of(1, dim3(1 << 22 | 1, 1024)) == cudaErrorInvalidConfiguration);  // 2^32 + 1024
  CHECK(status_of(1, 0) == cudaErrorInvalidConfiguration);
  CHECK(status_of(0, 1) == cudaErrorInvalidConfiguration);
  CHECK(status_of(dim3(1, 65535), 1) == cudaSuccess);
  CHECK(status_of(dim3(1, 65536), 1) == cudaErrorInvalidConfiguration);
  CHECK(status_of(dim3(1, 1, 65536), 1) == cudaErrorInvalidConfiguration);
}

TEST_CASE("more than 48 KB of shared memory must be asked for, and more than 99 KB there is not") {
  constexpr int unasked = 48 << 10, most = 99 << 10;
  CHECK(status_of(1, 1, unasked) == cudaSuccess);
  CHECK(status_of(1, 1, unasked + 1) == cudaErrorInvalidConfiguration);
  const auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
  CHECK(cudaFuncSetAttribute(unasked_kernel, attribute, most + 1) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaFuncSetAttribute(unasked_kernel, attribute, most) == cudaSuccess);
  CHECK(status_of(1, 1, most) == cudaSuccess);
  CHECK_THROWS_WITH_AS(launch(nothing_kernel, 1, 1, most + 1),
                       doctest::Contains("invalid argument"), chalk::Error);
}

TEST_CASE("an empty grid is nothing to do, a kernel is counted when it runs") {
  check_cuda(cudaStreamSynchronize(stream()));
  const long before = on_cpu::launches();
  launch(nothing_kernel, 0, 32, 0);
  launch(nothing_kernel, 3, 32, 0);
  launch(nothing_kernel, 1, 1, 0);
  check_cuda(cudaStreamSynchronize(stream()));
  CHECK(on_cpu::launches() == before + 2);
}

TEST_CASE("fresh memory, global and shared, is NaN") {
  const DeviceValues<float> x(std::size_t{3}), y(std::size_t{1});
  const DeviceValues<double> z(std::size_t{2});
  for (const float value : x.read())
    CHECK(std::isnan(value));
  for (const double value : z.read())
    CHECK(std::isnan(value));
  launch(shared_kernel, 1, 1, 40, 10, y.data());
  CHECK(std::isnan(y.read()[0]));
}

TEST_CASE("what cp.async copies is NaN until its wait") {
  const DeviceValues<float> x(std::vector<float>{3}), y(std::size_t{1});
  launch(early_kernel, 1, 1, 4, x.data(), y.data());
  CHECK(std::isnan(y.read()[0]));
}

TEST_CASE("a pointer of the host or of another device is refused where it is passed") {
  float on_host = 0;
  CHECK_THROWS_WITH_AS(launch(add_kernel, 1, 1, 0, 1.0f, &on_host),
                       doctest::Contains("invalid argument"), chalk::Error);
  const DeviceValues<float> x(std::size_t{1});
  CHECK(cudaMemcpyAsync(&on_host, x.data(), 4, cudaMemcpyHostToDevice, stream()) ==
        cudaErrorInvalidValue);
  CHECK(cudaMemcpyAsync(&on_host, x.data() + 1, 4, cudaMemcpyDeviceToHost, stream()) ==
        cudaErrorInvalidValue);
  cudaGetLastError();
  const cudaStream_t first = stream();
  const CurrentDevice second(1);
  CHECK_THROWS_AS(launch(add_kernel, 1, 1, 0, 1.0f, x.data()), chalk::Error);
  CHECK(status_of(1, 1, 0, first) == cudaErrorInvalidResourceHandle);
  const DeviceValues<float> y(std::vector<float>{3});
  launch(add_kernel, 1, 1, 0, 1.0f, y.data());
  CHECK(y.read()[0] == 4);
}

TEST_CASE("more memory than there is is an error") {
  void* memory = nullptr;
  CHECK(cudaMalloc(&memory, std::size_t{1} << 40) == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("a graph does at every replay what was recorded, with the arguments of then") {
  const DeviceValues<float> x(std::vector<float>{1, 2});
  float by = 10;
  check_cuda(cudaStreamSynchronize(stream()));
  const long before = on_cpu::launches();
  const cudaGraphExec_t graph = record([&] {
    launch(add_kernel, 1, 2, 0, by, x.data());
    launch(add_kernel, 1, 1, 0, by, x.data());
  });
  by = 1000;
  CHECK(on_cpu::launches() == before);
  CHECK(x.read() == std::vector<float>{1, 2});
  for (int i = 0; i < 3; ++i)
    check_cuda(cudaGraphLaunch(graph, stream()));
  check_cuda(cudaGraphExecDestroy(graph));  // those that run are done first
  CHECK(x.read() == std::vector<float>{61, 32});
  CHECK(on_cpu::launches() == before + 6);
}

TEST_CASE("a step that waits cannot be recorded") {
  const DeviceValues<float> x(std::vector<float>{1});
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDefault));
  const cudaGraphExec_t graph = record([&] {
    CHECK(cudaStreamSynchronize(stream()) == cudaErrorStreamCaptureUnsupported);
    CHECK(cudaDeviceSynchronize() == cudaErrorStreamCaptureUnsupported);
    CHECK(cudaEventRecord(event, stream()) == cudaErrorStreamCaptureUnsupported);
    CHECK(cudaGetLastError() == cudaErrorStreamCaptureUnsupported);
  });
  check_cuda(cudaGraphExecDestroy(graph));
  check_cuda(cudaEventDestroy(event));
}

TEST_CASE("an event orders two streams") {
  cudaStream_t other = nullptr;
  cudaEvent_t event = nullptr, later = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDefault));
  check_cuda(cudaEventCreateWithFlags(&later, cudaEventDefault));
  const DeviceValues<float> x(std::vector<float>{1}), y(std::vector<float>{0});
  on_cpu::launch(add_kernel, 1, 1, 0, other, 5.0f, x.data());
  check_cuda(cudaEventRecord(event, other));
  on_cpu::launch(add_kernel, 1, 1, 0, other, 100.0f, x.data());
  check_cuda(cudaStreamWaitEvent(stream(), event, 0));
  launch(copy_kernel, 1, 1, 0, x.data(), y.data());
  check_cuda(cudaEventRecord(later, stream()));
  float milliseconds = -1;
  check_cuda(cudaEventSynchronize(later));
  check_cuda(cudaEventElapsedTime(&milliseconds, event, later));
  CHECK(milliseconds >= 0);
  CHECK((y.read()[0] == 6 || y.read()[0] == 106));  // the third kernel may be early or late
  check_cuda(cudaStreamDestroy(other));
  CHECK(x.read()[0] == 106);
  check_cuda(cudaEventDestroy(event));
  check_cuda(cudaEventDestroy(later));
}

// To ThreadSanitizer this kernel is what it is, a race.
TEST_CASE("threads and blocks run in the order asked for" *
          doctest::skip(on_cpu::thread_sanitizer)) {
  constexpr std::size_t count = 4 * 64;
  const DeviceValues<int> next(std::vector<int>{0}), turn(count);
  launch(order_kernel, 4, 64, 0, next.data(), turn.data());
  std::vector<int> forward(count);
  std::iota(forward.begin(), forward.end(), 0);
  const std::vector<int> reverse(forward.rbegin(), forward.rend());
  CHECK((turn.read() == forward) == (on_cpu::order() == on_cpu::Order::forward));
  CHECK((turn.read() == reverse) == (on_cpu::order() == on_cpu::Order::reverse));
  auto sorted = turn.read();
  std::sort(sorted.begin(), sorted.end());
  CHECK(sorted == forward);
}
