// Recorded steps: CUDA's graphs behind Recorder of autograd/devices.h.
#include "autograd/check.h"
#include "autograd/devices.h"
#include "cuda/memory.h"

namespace chalk::cuda {
namespace {

thread_local bool is_recording = false;

class GraphRecorder final : public Recorder {
 public:
  explicit GraphRecorder(int index) : index_(index), pool_(device_allocator(index).new_pool()) {}

  ~GraphRecorder() override {
    const CurrentDevice current(index_);
    cudaStreamSynchronize(stream());  // a replay may still run
    if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
  }

  void warm_up(const std::function<void()>& function) override {
    const CurrentDevice current(index_);
    const UsedPool used(*this);
    function();
  }

  void record(const std::function<void()>& function) override {
    const CurrentDevice current(index_);
    const UsedPool used(*this);
    check_cuda(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed));
    is_recording = true;
    cudaGraph_t graph = nullptr;
    try {
      function();
    } catch (...) {
      end_capture(graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      cudaGetLastError();
      throw;
    }
    check_cuda(end_capture(graph));
    check_cuda(cudaGraphGetNodes(graph, nullptr, &launches_));
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    check_cuda(status);
  }

  void replay(std::uint64_t random_offset) override {
    const CurrentDevice current(index_);
    if (random_offset != random_offset_) {
      device_allocator(index_).copy(&random_offset, random_base(), sizeof random_offset);
      random_offset_ = random_offset;
    }
    check_cuda(cudaGraphLaunch(executable_, stream()));
    if (random_offset_ != 0) {
      // Outside of replays it is 0.
      random_offset_ = 0;
      device_allocator(index_).copy(&random_offset_, random_base(), sizeof random_offset_);
    }
  }

  Index launches() const override { return static_cast<Index>(launches_); }

 private:
  struct UsedPool {
    CudaAllocator& allocator;
    explicit UsedPool(const GraphRecorder& recorder)
        : allocator(device_allocator(recorder.index_)) {
      allocator.use(recorder.pool_);
    }
    ~UsedPool() { allocator.use(nullptr); }
  };

  static cudaError_t end_capture(cudaGraph_t& graph) {
    is_recording = false;
    return cudaStreamEndCapture(stream(), &graph);
  }

  const int index_;
  const CudaAllocator::Pool pool_;
  cudaGraphExec_t executable_ = nullptr;
  std::size_t launches_ = 0;
  std::uint64_t random_offset_ = 0;  // what random_base() holds
};

}  // namespace

bool recording() {
  return is_recording;
}

}  // namespace chalk::cuda

std::unique_ptr<chalk::Recorder> chalk::make_recorder(Device device) {
  if (device == Device::cpu) return nullptr;
  return std::make_unique<cuda::GraphRecorder>(device.index);
}
