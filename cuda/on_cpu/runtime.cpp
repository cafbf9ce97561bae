#include "cuda/on_cpu/runtime.h"

#include <sys/mman.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <vector>

#include "autograd/devices.h"

namespace chalk::cuda::on_cpu {

using Work = std::function<void()>;

struct Graph {
  std::vector<Work> work;
};

struct Stream {
  const int device;
  std::deque<Work> queue;
  long done = 0, submitted = 0;
  std::unique_ptr<Graph> capture;

  explicit Stream(int its_device) : device(its_device) {}
  void catch_up(long until);
};

struct Event {
  Stream* stream = nullptr;
  long position = 0;  // of its record among the stream's work
  std::chrono::steady_clock::time_point time;
};

namespace {

struct Region {
  std::size_t bytes, mapped;  // mapped: from there on, with what aligns its end
  int device;
};

// Everything the runtime knows. Never destroyed: tensors in static variables may outlive it.
struct Runtime {
  std::map<std::uintptr_t, Region> regions;
  std::vector<Stream*> streams;
  std::map<const void*, int> shared_limits;  // of kernels that asked for more than 48 KB
  cudaError_t last = cudaSuccess, sticky = cudaSuccess;
  int device = 0, capturing = 0;
  int open[devices] = {};  // how many works, one in another, have that device's memory open
  long launches = 0;
  void* shared = nullptr;  // of the block that runs
};

Runtime& runtime() {
  static Runtime& instance = *new Runtime;
  return instance;
}

bool deferred() {
  static const bool chosen = [] {
    const char* text = std::getenv("EMU_DEFER");
    return text != nullptr && std::strcmp(text, "1") == 0;
  }();
  return chosen;
}

// ---- device memory ----

constexpr std::size_t huge_page = std::size_t{2} << 20;

// NaN as float and as double.
void poison(void* memory, std::size_t bytes) {
  auto* words = static_cast<std::uint32_t*>(memory);
  std::fill(words, words + bytes / sizeof *words, 0x7ff80000u);
}

void set_open(std::uintptr_t memory, const Region& region, bool open) {
  [[maybe_unused]] void* address = reinterpret_cast<void*>(memory);
#if defined(__SANITIZE_ADDRESS__)
  open ? open_to_host(address, region.bytes) : close_to_host(address, region.bytes);
#else
  // ThreadSanitizer maps shadow pages beside these: they stay as they are.
  if (!thread_sanitizer)
    mprotect(address, region.mapped, open ? PROT_READ | PROT_WRITE : PROT_NONE);
#endif
}

// What a stream does opens its device's memory to itself.
struct Opened {
  const int device;

  explicit Opened(int its_device) : device(its_device) {
    if (runtime().open[device]++ == 0) set_all(true);
  }
  ~Opened() {
    if (--runtime().open[device] == 0) set_all(false);
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

  void set_all(bool open) const {
    for (const auto& [memory, region] : runtime().regions)
      if (region.device == device) set_open(memory, region, open);
  }
};

// That of an address, nullptr where there is none.
const Region* region_of(const void* memory, std::size_t bytes = 1) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  auto region = runtime().regions.upper_bound(address);
  if (region == runtime().regions.begin()) return nullptr;
  --region;
  const std::uintptr_t end = region->first + std::max<std::size_t>(region->second.bytes, 1);
  return address + bytes <= end ? &region->second : nullptr;
}

}  // namespace

// Does what was submitted up to then.
void Stream::catch_up(long until) {
  while (done < until && !queue.empty()) {
    const Work work = std::move(queue.front());
    queue.pop_front();
    ++done;
    const Unwatched unwatched;
    const Opened opened(device);
    work();
  }
}

namespace {

void report_illegal_access(int, siginfo_t* info, void*) {
  const Region* region = region_of(info->si_addr);
  const bool in_kernel = runtime().open[0] + runtime().open[1] > 0;
  std::fprintf(stderr, "cuda (on cpu): illegal access to %p by %s%s\n", info->si_addr,
               in_kernel ? where().c_str() : "host code",
               region == nullptr ? ""
               : in_kernel       ? ": it is another device's memory"
                                 : ": device memory is closed to it");
  std::signal(SIGSEGV, SIG_DFL);  // returns, faults again, and stops there in a debugger
}

void install_report() {
  if (address_sanitizer || thread_sanitizer) return;  // they have reports of their own
  static char stack[64 << 10];                        // the fault may be that of a full stack
  stack_t alternative{};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof stack;
  sigaltstack(&alternative, nullptr);
  struct sigaction action {};
  action.sa_sigaction = report_illegal_access;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
}

// Under AddressSanitizer from malloc, which watches both ends; else from huge pages, which open and
// close quickly, with its end at the end of a page.
void* take(std::size_t bytes, std::size_t& mapped) {
  if (address_sanitizer) {
    mapped = bytes;
    void* memory = nullptr;
    return posix_memalign(&memory, 256, std::max<std::size_t>(bytes, 1)) == 0 ? memory : nullptr;
  }
  mapped = (std::max<std::size_t>(bytes, 1) + huge_page - 1) / huge_page * huge_page;
  void* memory = nullptr;
  if (posix_memalign(&memory, huge_page, mapped) != 0) return nullptr;
  madvise(memory, mapped, MADV_HUGEPAGE);
  return memory;
}

void wait_for_all() {
  for (Stream* stream : runtime().streams)
    stream->catch_up(stream->submitted);
}

}  // namespace

cudaError_t set_error(cudaError_t status) {
  if (status != cudaSuccess) runtime().last = status;
  return status;
}

bool on_device(const void* memory, std::size_t bytes) {
  const Region* region = region_of(memory, bytes);
  return region != nullptr && region->device == runtime().device;
}

void submit(Stream* stream, Work work) {
  if (stream->capture != nullptr) {
    stream->capture->work.push_back(std::move(work));
    return;
  }
  stream->queue.push_back(std::move(work));
  ++stream->submitted;
  if (!deferred()) stream->catch_up(stream->submitted);
}

// ---- kernels ----

void* block_shared_memory() {
  return runtime().shared;
}

long launches() {
  return runtime().launches;
}

// EMU_SHARED: the bytes a block may ask for; 99 KB, what every GPU since sm_80 has.
static int shared_memory_limit() {
  static const int limit = [] {
    const char* text = std::getenv("EMU_SHARED");
    return text != nullptr ? std::atoi(text) : 99 << 10;
  }();
  return limit;
}

bool can_launch(const Kernel& kernel, const Stream& stream) {
  const auto granted = runtime().shared_limits.find(kernel.function);
  const int shared_limit = granted == runtime().shared_limits.end() ? 48 << 10 : granted->second;
  const dim3 &grid = kernel.grid, &block = kernel.block;
  const bool good = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffff &&
                    grid.y <= 65535 && grid.z <= 65535 && block.x <= 1024 && block.y <= 1024 &&
                    block.z <= 64 && block.x * block.y * block.z > 0 &&
                    block.x * block.y * block.z <= 1024 &&
                    kernel.shared <= static_cast<std::size_t>(shared_limit);
  if (!good) set_error(cudaErrorInvalidConfiguration);
  if (stream.device != runtime().device) set_error(cudaErrorInvalidResourceHandle);
  return good && stream.device == runtime().device;
}

void refuse_host_pointer() {
  std::fputs("cuda (on cpu): a pointer that is not the device's was passed to a kernel\n", stderr);
  set_error(cudaErrorInvalidValue);
}

// The order in which a grid's blocks run.
static std::vector<long> block_order(long count) {
  std::vector<long> result(static_cast<std::size_t>(count));
  std::iota(result.begin(), result.end(), 0L);
  if (order() == Order::reverse) std::reverse(result.begin(), result.end());
  if (order() == Order::shuffle) {
    unsigned random = 1;
    for (std::size_t i = result.size(); i > 1; --i) {
      random = random * 1664525 + 1013904223;
      std::swap(result[i - 1], result[random % i]);
    }
  }
  return result;
}

void run(const Kernel& kernel) {
  Runtime& r = runtime();
  if (r.sticky != cudaSuccess) return;
  ++r.launches;
  gridDim = kernel.grid;
  blockDim = kernel.block;
  // From malloc, for its exact bounds; whole words, for the poison.
  const std::size_t words = (kernel.shared + 3) / 4;
  const std::unique_ptr<void, void (*)(void*)> shared(std::malloc(4 * words), std::free);
  r.shared = shared.get();
  const auto thread = [](void* body) { (*static_cast<const Work*>(body))(); };
  const long plane = static_cast<long>(kernel.grid.x) * kernel.grid.y;
  for (const long i : block_order(plane * kernel.grid.z)) {
    const auto x = kernel.grid.x;
    blockIdx = {static_cast<unsigned>(i % x), static_cast<unsigned>(i % plane / x),
                static_cast<unsigned>(i / plane)};
    poison(r.shared, 4 * words);
    if (!block().run(kernel.block, thread, const_cast<Work*>(&kernel.thread))) {
      r.sticky = cudaErrorLaunchFailure;
      return;
    }
  }
}

}  // namespace chalk::cuda::on_cpu

using namespace chalk::cuda::on_cpu;

// ---- devices and errors ----

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= devices) return set_error(cudaErrorInvalidDevice);
  runtime().device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = runtime().device;
  return cudaSuccess;
}

constexpr std::size_t memory_of_device = std::size_t{4} << 30;

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::snprintf(properties->name, sizeof properties->name, "cuda (on cpu)");
  properties->totalGlobalMem = memory_of_device;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? 4 : shared_memory_limit();
  return cudaSuccess;
}

static std::size_t bytes_in_use() {
  std::size_t used = 0;
  for (const auto& [memory, region] : runtime().regions)
    if (region.device == runtime().device) used += region.bytes;
  return used;
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *total = memory_of_device;
  *free = memory_of_device - bytes_in_use();
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t status = cudaPeekAtLastError();
  runtime().last = cudaSuccess;
  return status;
}

cudaError_t cudaPeekAtLastError() {
  return runtime().sticky != cudaSuccess ? runtime().sticky : runtime().last;
}

const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
  }
  return "unrecognized error code";
}

// What a capture does not allow: it would have to wait, or to allocate.
static bool refused_while_capturing() {
  if (runtime().capturing == 0) return false;
  set_error(cudaErrorStreamCaptureUnsupported);
  return true;
}

cudaError_t cudaDeviceSynchronize() {
  if (refused_while_capturing()) return cudaErrorStreamCaptureUnsupported;
  wait_for_all();
  return cudaPeekAtLastError();
}

// ---- memory ----

// Allowed while a stream captures in the relaxed mode, which is the only one here.
cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  static const bool installed = (install_report(), true);
  static_cast<void>(installed);
  if (bytes > memory_of_device - bytes_in_use()) return set_error(cudaErrorMemoryAllocation);
  std::size_t mapped = 0;
  *memory = take(bytes, mapped);
  if (*memory == nullptr) return set_error(cudaErrorMemoryAllocation);
  poison(*memory, bytes);
  const auto address = reinterpret_cast<std::uintptr_t>(*memory);
  const Region region{bytes, mapped, runtime().device};
  runtime().regions.emplace(address, region);
  set_open(address, region, runtime().open[region.device] > 0);
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  const auto region = runtime().regions.find(reinterpret_cast<std::uintptr_t>(memory));
  if (region == runtime().regions.end()) return set_error(cudaErrorInvalidValue);
  wait_for_all();
  set_open(region->first, region->second, true);
  runtime().regions.erase(region);
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  *memory = std::malloc(bytes);
  return *memory != nullptr ? cudaSuccess : set_error(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const bool good = on_device(to, bytes) == (kind != cudaMemcpyDeviceToHost) &&
                    on_device(from, bytes) == (kind != cudaMemcpyHostToDevice);
  if (!good) return set_error(cudaErrorInvalidValue);
  submit(stream, [=] { std::memmove(to, from, bytes); });
  return cudaPeekAtLastError();
}

// ---- streams and events ----

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new Stream(runtime().device);
  runtime().streams.push_back(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (refused_while_capturing()) return cudaErrorStreamCaptureUnsupported;
  stream->catch_up(stream->submitted);
  return cudaPeekAtLastError();
}

// A graph that waits for other streams, or that others wait for, is more than this can record.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (stream->capture != nullptr) return set_error(cudaErrorStreamCaptureUnsupported);
  if (event->stream == nullptr) return cudaSuccess;
  submit(stream, [from = event->stream, position = event->position] { from->catch_up(position); });
  return cudaSuccess;
}

// Events may name it still: it stays.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  stream->catch_up(stream->submitted);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new Event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (stream->capture != nullptr) return set_error(cudaErrorStreamCaptureUnsupported);
  submit(stream, [event] { event->time = std::chrono::steady_clock::now(); });
  event->stream = stream;
  event->position = stream->submitted;
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (refused_while_capturing()) return cudaErrorStreamCaptureUnsupported;
  if (event->stream != nullptr) event->stream->catch_up(event->position);
  return cudaPeekAtLastError();
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  for (const Event* event : {begin, end}) {
    if (event->stream == nullptr) return set_error(cudaErrorInvalidResourceHandle);
    if (event->stream->done < event->position) return set_error(cudaErrorNotReady);
  }
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - begin->time).count();
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  wait_for_all();
  delete event;
  return cudaSuccess;
}

// ---- graphs ----

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream->capture != nullptr) return set_error(cudaErrorStreamCaptureUnsupported);
  stream->capture = std::make_unique<Graph>();
  ++runtime().capturing;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (stream->capture == nullptr) return set_error(cudaErrorInvalidValue);
  *graph = stream->capture.release();
  --runtime().capturing;
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, std::nullptr_t, std::size_t* count) {
  *count = graph->work.size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = new Graph(*graph);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  submit(stream, [executable] {
    for (const Work& work : executable->work)
      work();
  });
  return cudaPeekAtLastError();
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  wait_for_all();
  delete executable;
  return cudaSuccess;
}

cudaError_t set_shared_memory(const void* function, cudaFuncAttribute, int bytes) {
  if (bytes > shared_memory_limit()) return set_error(cudaErrorInvalidValue);
  int& limit = runtime().shared_limits.try_emplace(function, 48 << 10).first->second;
  limit = std::max(limit, bytes);
  return cudaSuccess;
}

// ---- what chalk asks, see autograd/devices.h ----

std::string chalk::cuda_name(int index) {
  return index == 0 ? "cuda (on cpu)" : "cuda:" + std::to_string(index) + " (on cpu)";
}
