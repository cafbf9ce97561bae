// Mistakes that CUDA programs are made of, each in a small kernel of its own, beside the same
// kernel without it: `planted NAME wrong` and `planted NAME right`. planted.sh runs all of them and
// holds a table of what must notice which.
//
// A line with the comment `reported: NAME` is the one that the report must name.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "autograd/check.h"
#include "tests/cuda/device_values.h"

using namespace chalk::cuda;

namespace {

// 1, 2, ..., count: what most kernels here read.
std::vector<float> numbers(std::size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 1.0f);
  return values;
}

void expect(const std::vector<float>& actual, const std::vector<float>& expected) {
  for (std::size_t i = 0; i < expected.size(); ++i)
    chalk::check(actual[i] == expected[i], "wrong values: element ", i, " is ", actual[i], ", not ",
                 expected[i]);
}

// ---- 1: the last block of threads goes beyond the end ----

// y[row] = sum over k of x[row, k], a thread a row.
__global__ void sum_rows(int rows, int columns, const float* x, float* y, bool wrong) {
  const int row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (row < rows || (wrong && row == rows)) {
    float sum = 0;
    for (int k = 0; k < columns; ++k)
      sum += x[row * columns + k];  // reported: tail
    y[row] = sum;
  }
}

void tail(bool wrong) {
  const DeviceValues<float> x(numbers(37 * 3)), y(std::size_t{37});
  launch(sum_rows, blocks_for(37, 32), 32, 0, 37, 3, x.data(), y.data(), wrong);
  chalk::check(y.read()[36] == 109 + 110 + 111, "wrong values");
}

// ---- 2: a tile in shared memory is overwritten while others read it ----

// y[i] = sum over tiles of the tile's element opposite to i.
__global__ void sum_opposite(int tiles, const float* x, float* y, bool wrong) {
  __shared__ float tile[64];
  const unsigned i = threadIdx.x;
  float sum = 0;
  for (int t = 0; t < tiles; ++t) {
    tile[i] = x[static_cast<unsigned>(t) * 64 + i];  // reported: barrier
    __syncthreads();
    sum += tile[63 - i];
    if (!wrong) __syncthreads();
  }
  y[i] = sum;
}

void barrier(bool wrong) {
  const DeviceValues<float> x(numbers(3 * 64)), y(std::size_t{64});
  launch(sum_opposite, 1, 64, 0, 3, x.data(), y.data(), wrong);
  std::vector<float> expected;
  for (int i = 0; i < 64; ++i)
    expected.push_back(static_cast<float>(3 * (64 - i) + 64 + 128));
  expect(y.read(), expected);
}

// ---- 3: the last steps of a pipeline commit nothing, so the wait counts too few groups ----

// *y = sum of x[steps], each element brought in the background a step before it is added.
__global__ void pipeline_kernel(int steps, const float* x, float* y, bool wrong) {
  float* stages = dynamic_shared<float>();
  cp_async4(stages, x);
  cp_async_commit();
  float sum = 0;
  for (int step = 0; step < steps; ++step) {
    const bool more = step + 1 < steps;
    if (more) cp_async4(stages + (step + 1) % 2, x + step + 1);
    if (more || !wrong) cp_async_commit();
    cp_async_wait<1>();
    sum += stages[step % 2];
  }
  *y = sum;
}

void pipeline(bool wrong) {
  for (const int steps : {1, 2, 3}) {
    const DeviceValues<float> x(numbers(3)), y(std::size_t{1});
    launch(pipeline_kernel, 1, 1, 2 * sizeof(float), steps, x.data(), y.data(), wrong);
    expect(y.read(), {static_cast<float>(steps * (steps + 1) / 2)});
  }
}

// ---- 4: one edge of an image is tested wrongly, so a neighbour in memory takes part ----

// y[n, row, column] = sum of the pixels of x beside it, to the left and to the right, and of
// itself.
__global__ void sum_beside(int count, int width, const float* x, float* y, bool wrong) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x), column = i % width;
  if (i < count) {
    const bool left = column > 0, right = column + 1 < width || (wrong && i + 1 < count);
    y[i] = x[i] + (left ? x[i - 1] : 0) + (right ? x[i + 1] : 0);
  }
}

void edge(bool wrong) {
  for (const int width : {1, 9}) {
    const int count = 2 * 7 * width;
    const std::vector<float> values = numbers(static_cast<std::size_t>(count));
    const DeviceValues<float> x(values), y(values.size());
    launch(sum_beside, blocks_for(count, 32), 32, 0, count, width, x.data(), y.data(), wrong);
    std::vector<float> expected;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const int column = static_cast<int>(i) % width;
      expected.push_back(values[i] + (column > 0 ? values[i - 1] : 0) +
                         (column < width - 1 ? values[i + 1] : 0));
    }
    expect(y.read(), expected);
  }
}

// ---- 5: threads without work return before a barrier ----

__global__ void reverse(int count, const float* x, float* y, bool wrong) {
  __shared__ float values[64];
  const int i = static_cast<int>(threadIdx.x);
  if (wrong && i >= count) return;
  if (i < count) values[i] = x[i];
  __syncthreads();  // reported: return
  if (i < count) y[i] = values[count - 1 - i];
}

void early_return(bool wrong) {
  const DeviceValues<float> x(numbers(50)), y(std::size_t{50});
  launch(reverse, 1, 64, 0, 50, x.data(), y.data(), wrong);
  chalk::check(y.read()[0] == 50, "wrong values");
}

// ---- 6: a number that changes from step to step is an argument of a recorded kernel ----

__global__ void step_by_value(float rate, float* w) {
  *w -= rate;
}
__global__ void step_by_pointer(const float* rate, float* w) {
  *w -= *rate;
}

void frozen(bool wrong) {
  DeviceValues<float> rate(std::vector<float>{1});
  const DeviceValues<float> w(std::vector<float>{100});
  float rate_here = 1;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t step = nullptr;
  check_cuda(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed));
  wrong ? launch(step_by_value, 1, 1, 0, rate_here, w.data())
        : launch(step_by_pointer, 1, 1, 0, rate.data(), w.data());
  check_cuda(cudaStreamEndCapture(stream(), &graph));
  check_cuda(cudaGraphInstantiate(&step, graph, 0));
  float eager = 100;
  for (int i = 0; i < 6; ++i, rate_here /= 2) {
    rate.write({rate_here});
    check_cuda(cudaGraphLaunch(step, stream()));
    eager -= rate_here;
  }
  check_cuda(cudaGraphExecDestroy(step));
  check_cuda(cudaGraphDestroy(graph));
  expect(w.read(), {eager});
}

// ---- 7: the host reads device memory ----

void host_access(bool wrong) {
  const DeviceValues<float> x(numbers(4));
  const float first = wrong ? x.data()[0] : x.read()[0];  // reported: host
  chalk::check(first == 1, "wrong values");
}

// ---- 8: a buffer is filled again before its copy has left ----

void reuse(bool wrong) {
  void* pinned = nullptr;
  cudaEvent_t uploaded = nullptr;
  check_cuda(cudaMallocHost(&pinned, sizeof(float)));
  check_cuda(cudaEventCreateWithFlags(&uploaded, cudaEventDisableTiming));
  const DeviceValues<float> x(std::size_t{2});
  for (int i = 0; i < 2; ++i) {
    if (!wrong) check_cuda(cudaEventSynchronize(uploaded));
    const float value = static_cast<float>(i + 1);
    std::memcpy(pinned, &value, sizeof value);
    check_cuda(
        cudaMemcpyAsync(x.data() + i, pinned, sizeof value, cudaMemcpyHostToDevice, stream()));
    check_cuda(cudaEventRecord(uploaded, stream()));
  }
  expect(x.read(), {1, 2});
  check_cuda(cudaEventDestroy(uploaded));
  check_cuda(cudaFreeHost(pinned));
}

// ---- 9: a sum in the order in which blocks arrive ----

__global__ void add_on_arrival(const float* x, float* sum) {
  *sum += x[blockIdx.x];  // with atomicAdd no race on a GPU, but other bits from run to run
}
__global__ void add_in_order(int count, const float* x, float* sum) {
  for (int i = 0; i < count; ++i)
    *sum += x[i];
}

// Prints the bits, which must not depend on EMU_ORDER.
void arrival(bool wrong) {
  std::vector<float> values;
  for (int i = 0; i < 100; ++i)
    values.push_back(std::sin(static_cast<float>(i)) * std::exp(static_cast<float>(i % 10)));
  const DeviceValues<float> x(values), sum(std::vector<float>{0});
  wrong ? launch(add_on_arrival, 100, 1, 0, x.data(), sum.data())
        : launch(add_in_order, 1, 1, 0, 100, x.data(), sum.data());
  std::printf("%a\n", static_cast<double>(sum.read()[0]));
}

// ---- 10: more than a launch may have ----

__global__ void shared_words(int words, float* y) {
  float* shared = dynamic_shared<float>();
  shared[words - 1] = 5;
  *y = shared[words - 1];
}

void unasked(bool wrong) {
  const DeviceValues<float> y(std::size_t{1});
  constexpr int words = 20000;
  if (wrong)  // kernel<<<1, 1, bytes, stream>>> without cudaFuncSetAttribute
    on_cpu::launch(shared_words, 1, 1, words * 4, stream(), words, y.data());
  else
    launch(shared_words, 1, 1, words * 4, words, y.data());
  check_cuda(cudaGetLastError());
  expect(y.read(), {5});
}

__global__ void fill_rows(int rows, float* y) {
  const unsigned row = blockIdx.y * gridDim.x + blockIdx.x;
  if (row < static_cast<unsigned>(rows)) y[row] = 1;
}

void grid(bool wrong) {
  constexpr unsigned rows = 70000;
  const DeviceValues<float> y(std::size_t{rows});
  launch(fill_rows, wrong ? dim3(1, rows) : dim3(rows), 1, 0, static_cast<int>(rows), y.data());
  chalk::check(y.read()[rows - 1] == 1, "wrong values");
}

// volatile: so that the compiler does not see it before the sanitizer does.
void overflow(bool wrong) {
  const volatile int rows = 70000;
  if (wrong) {
    const int count = rows * rows;  // reported: overflow
    std::printf("%d\n", count);
  } else {
    try {
      to_int(chalk::Index{rows} * rows);
    } catch (const chalk::Error& error) {
      return;  // it says that this is more than a kernel can count
    }
    chalk::fail("to_int let 4,900,000,000 pass");
  }
}

// ---- further mistakes that the emulator reports ----

// Both halves of the block reach a barrier, but not the same one.
__global__ void two_barriers(bool wrong) {
  if (!wrong || threadIdx.x < 32)
    __syncthreads();  // reported: divergent, here first
  else
    __syncthreads();  // reported: divergent
}
void divergent(bool wrong) {
  launch(two_barriers, 1, 64, 0, wrong);
  check_cuda(cudaStreamSynchronize(stream()));
}

// Half of a warp shuffles with all of it.
__global__ void half_shuffles(bool wrong) {
  if (!wrong || threadIdx.x < 16)
    __shfl_xor_sync(~0u, 1, 1);  // reported: half
  else
    __ballot_sync(~0u, 1);  // reported: half, here too
}
void half_warp(bool wrong) {
  launch(half_shuffles, 1, 32, 0, wrong);
  check_cuda(cudaStreamSynchronize(stream()));
}

// A shuffle exchanges registers; it orders no memory, as __syncwarp() does.
__global__ void reverse_warp(const float* x, float* y, bool wrong) {
  float* values = dynamic_shared<float>();
  const unsigned lane = threadIdx.x;
  values[lane] = x[lane];
  wrong ? static_cast<void>(__shfl_sync(~0u, 1, 0)) : __syncwarp();
  y[lane] = values[31 - lane];  // reported: shuffle
}
void shuffle_as_barrier(bool wrong) {
  const DeviceValues<float> x(numbers(32)), y(std::size_t{32});
  launch(reverse_warp, 1, 32, 32 * sizeof(float), x.data(), y.data(), wrong);
  chalk::check(y.read()[0] == 32, "wrong values");
}

__global__ void read_four(const float* x, float* y) {
  *y = reinterpret_cast<const float4*>(x)->x;  // reported: misaligned
}
void misaligned(bool wrong) {
  const DeviceValues<float> x(numbers(8)), y(std::size_t{1});
  launch(read_four, 1, 1, 0, x.data() + (wrong ? 1 : 4), y.data());
  expect(y.read(), {5});
}

__global__ void copy_four(const float* x, float* y) {
  float* shared = dynamic_shared<float>();
  cp_async16(shared, x);  // reported: copy
  cp_async_commit();
  cp_async_wait<0>();
  *y = shared[0];
}
void misaligned_copy(bool wrong) {
  const DeviceValues<float> x(numbers(8)), y(std::size_t{1});
  launch(copy_four, 1, 1, 16, x.data() + (wrong ? 1 : 4), y.data());
  expect(y.read(), {5});
}

// Shared memory has bounds too.
__global__ void fill_shared(int count, float* y) {
  float* shared = dynamic_shared<float>();
  for (int i = 0; i < count; ++i)
    shared[i] = 1;  // reported: shared
  *y = shared[0];
}
void beyond_shared(bool wrong) {
  const DeviceValues<float> y(std::size_t{1});
  launch(fill_shared, 1, 1, 8 * sizeof(float), wrong ? 9 : 8, y.data());
  expect(y.read(), {1});
}

// A result that no thread wrote.
__global__ void copy_but_last(int count, const float* x, float* y) {
  if (static_cast<int>(threadIdx.x) < count) y[threadIdx.x] = x[threadIdx.x];
}
void unwritten(bool wrong) {
  const DeviceValues<float> x(numbers(8)), y(std::size_t{8});
  launch(copy_but_last, 1, 32, 0, wrong ? 7 : 8, x.data(), y.data());
  expect(y.read(), numbers(8));
}

// A structure's pointers are not looked at when it is passed, but memory is closed.
struct Pair {
  const float* x;
  float* y;
};
__global__ void copy_pair(Pair pair) {
  *pair.y = *pair.x;  // reported: device
}
void other_device(bool wrong) {
  const DeviceValues<float> y(std::size_t{1});
  const CurrentDevice device(wrong ? 1 : 0);
  const DeviceValues<float> x(numbers(1));
  const CurrentDevice first(0);
  launch(copy_pair, 1, 1, 0, Pair{x.data(), y.data()});
  expect(y.read(), {1});
}

// ---- blocks that meet ----

__global__ void last_one_wins(float* y) {
  *y = static_cast<float>(blockIdx.x);
}
__global__ void one_writes(float* y) {
  if (blockIdx.x == 7) *y = 7;
}

// Two blocks write one element. Prints it; it must not depend on EMU_ORDER.
void blocks(bool wrong) {
  const DeviceValues<float> y(std::size_t{1});
  launch(wrong ? last_one_wins : one_writes, 8, 1, 0, y.data());
  std::printf("%g\n", static_cast<double>(y.read()[0]));
}

__global__ void count_in_static(bool begins, float* y) {
  __shared__ float count;
  if (begins) count = 0;
  y[blockIdx.x] = count += 1;
}
__global__ void count_in_dynamic(bool begins, float* y) {
  float* count = dynamic_shared<float>();
  if (begins) *count = 0;
  y[blockIdx.x] = *count += 1;
}

// A block goes on with what another one left in shared memory. Of static arrays it finds that, and
// what depends on the order of blocks tells; dynamic memory is NaN at its start.
void stale_static(bool wrong) {
  const DeviceValues<float> y(std::size_t{3});
  launch(count_in_static, 3, 1, 0, !wrong, y.data());
  for (const float count : y.read())
    std::printf("%g ", static_cast<double>(count));
  std::printf("\n");
}
void stale_dynamic(bool wrong) {
  const DeviceValues<float> y(std::size_t{3});
  launch(count_in_dynamic, 3, 1, 4, !wrong, y.data());
  expect(y.read(), {1, 1, 1});
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, std::function<void(bool)>> mistakes = {
      {"tail", tail},
      {"barrier", barrier},
      {"pipeline", pipeline},
      {"edge", edge},
      {"early_return", early_return},
      {"frozen", frozen},
      {"host_access", host_access},
      {"reuse", reuse},
      {"arrival", arrival},
      {"unasked", unasked},
      {"grid", grid},
      {"overflow", overflow},
      {"divergent", divergent},
      {"half_warp", half_warp},
      {"shuffle_as_barrier", shuffle_as_barrier},
      {"misaligned", misaligned},
      {"misaligned_copy", misaligned_copy},
      {"beyond_shared", beyond_shared},
      {"unwritten", unwritten},
      {"other_device", other_device},
      {"blocks", blocks},
      {"stale_static", stale_static},
      {"stale_dynamic", stale_dynamic}};
  const std::string which = argc == 3 ? argv[2] : "";
  if (which != "wrong" && which != "right") {
    std::cerr << "planted NAME wrong|right, where NAME is one of\n";
    for (const auto& [name, mistake] : mistakes)
      std::cerr << "  " << name << "\n";
    return 2;
  }
  try {
    mistakes.at(argv[1])(which == "wrong");
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
