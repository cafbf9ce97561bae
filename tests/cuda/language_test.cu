// What chalk's kernels take for granted of the language: shuffles, votes, copies in the background,
// the tensor core's layout. On a GPU these tests hold the hardware to it, emulated the emulator.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "tests/cuda/device_values.h"

using namespace chalk::cuda;

namespace {

enum class Exchange { from, exclusive_or, down, up };

__global__ void exchange_kernel(Exchange how, int by, int width, int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const int value = 100 + lane;
  int got = 0;
  if (how == Exchange::from) got = __shfl_sync(~0u, value, by, width);
  if (how == Exchange::exclusive_or) got = __shfl_xor_sync(~0u, value, by, width);
  if (how == Exchange::down) got = __shfl_down_sync(~0u, value, by, width);
  if (how == Exchange::up) got = __shfl_up_sync(~0u, value, by, width);
  out[lane] = got - 100;  // the lane that it came from
}

// Each lane asks as the PTX ISA, "shfl", says; from_lane is that rule for one kind of exchange.
void check_exchange(Exchange how, const std::function<int(int, int, int)>& from_lane) {
  DeviceValues<int> out(32);
  for (const int width : {2, 4, 8, 16, 32}) {
    for (int by = 0; by < 32; ++by) {
      launch(exchange_kernel, 1, 32, 0, how, by, width, out.data());
      const std::vector<int> from = out.read();
      for (int lane = 0; lane < 32; ++lane) {
        CAPTURE(width);
        CAPTURE(by);
        CAPTURE(lane);
        CHECK(from[static_cast<std::size_t>(lane)] == from_lane(lane, by, width));
      }
    }
  }
}

// Lanes 0 to 9 and 20 to 29 each vote and add among themselves, with masks of their own.
__global__ void parts_kernel(unsigned* votes, int* sums) {
  const unsigned lane = threadIdx.x, low = 0x3ffu, high = 0x3ffu << 20;
  if ((low | high) >> lane & 1) {
    const unsigned mask = low >> lane & 1 ? low : high;
    votes[lane] = __ballot_sync(mask, lane % 2 == 1);
    const int first = lane < 20 ? 0 : 20;
    int sum = 0;
    for (int i = 0; i < 10; ++i)
      sum += __shfl_sync(mask, static_cast<int>(lane), first + i);
    sums[lane] = sum;
  }
}

__global__ void votes_kernel(int limit, int* any, int* all, unsigned* ballot) {
  const int i = static_cast<int>(threadIdx.x);
  any[i] = __any_sync(~0u, i % 32 < limit);
  all[i] = __all_sync(~0u, i % 32 < limit);
  ballot[i] = __ballot_sync(~0u, i % 32 < limit);
}

// The sum of a block whose last warp has few threads, which add among themselves alone.
__global__ void partial_warp_kernel(int* sum) {
  __shared__ int sums[32];
  const int i = static_cast<int>(threadIdx.x), lane = i % 32, warp = i / 32;
  const int rest = static_cast<int>(blockDim.x) - warp * 32;
  const unsigned mask = rest >= 32 ? ~0u : (1u << rest) - 1;
  int mine = i;
  for (int by = 16; by > 0; by /= 2) {
    const int other = __shfl_down_sync(mask, mine, by);
    if (lane + by < rest) mine += other;
  }
  if (lane == 0) sums[warp] = mine;
  __syncthreads();
  if (i == 0) {
    *sum = 0;
    for (int w = 0; w * 32 < static_cast<int>(blockDim.x); ++w)
      *sum += sums[w];
  }
}

// c = a b of [16, 8] and [8, 8], each lane with the elements that gpu.h says.
__global__ void mma_kernel(const float* a, const float* b, float* c) {
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  const std::uint32_t a_part[4] = {
      __float_as_uint(a[g * 8 + t]), __float_as_uint(a[(g + 8) * 8 + t]),
      __float_as_uint(a[g * 8 + t + 4]), __float_as_uint(a[(g + 8) * 8 + t + 4])};
  const std::uint32_t b_part[2] = {__float_as_uint(b[t * 8 + g]),
                                   __float_as_uint(b[(t + 4) * 8 + g])};
  float d[4] = {};
  mma_tf32(d, a_part, b_part);
  c[g * 8 + 2 * t] = d[0];
  c[g * 8 + 2 * t + 1] = d[1];
  c[(g + 8) * 8 + 2 * t] = d[2];
  c[(g + 8) * 8 + 2 * t + 1] = d[3];
}

std::vector<float> mma(const std::vector<float>& a, const std::vector<float>& b) {
  const DeviceValues<float> on_device_a(a), on_device_b(b), c(std::size_t{128});
  launch(mma_kernel, 1, 32, 0, on_device_a.data(), on_device_b.data(), c.data());
  return c.read();
}

// Three copies of 16 and 4 bytes in two groups; what each wait has brought. The third is not valid.
__global__ void copies_kernel(const float* from, float* to) {
  __shared__ __align__(16) float shared[12];
  for (int i = 0; i < 12; ++i)
    shared[i] = -1;
  cp_async16(shared, from);
  cp_async_commit();
  cp_async4(shared + 4, from + 4);
  cp_async16(shared + 8, from, false);
  cp_async_commit();
  cp_async_wait<1>();
  for (int i = 0; i < 4; ++i)
    to[i] = shared[i];
  cp_async_wait<0>();
  for (int i = 4; i < 12; ++i)
    to[i] = shared[i];
}

// y = the reverse of each block's part of x, through dynamic shared memory.
__global__ void reverse_kernel(const int* x, int* y) {
  int* part = dynamic_shared<int>();
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  part[threadIdx.x] = x[i];
  __syncthreads();
  y[i] = part[blockDim.x - 1 - threadIdx.x];
}

__global__ void places_kernel(int* place) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned i = block * blockDim.x * blockDim.y * blockDim.z + thread;
  place[i] = static_cast<int>(i);
}

}  // namespace

TEST_CASE("__shfl_sync takes the lane modulo the width, within its part of the warp") {
  check_exchange(Exchange::from,
                 [](int lane, int by, int width) { return lane / width * width + by % width; });
}

TEST_CASE("__shfl_xor_sync reaches parts before its own, not those after") {
  check_exchange(Exchange::exclusive_or, [](int lane, int by, int width) {
    return (lane ^ by) / width <= lane / width ? lane ^ by : lane;
  });
}

TEST_CASE("__shfl_down_sync and __shfl_up_sync stay within their part") {
  check_exchange(Exchange::down, [](int lane, int by, int width) {
    return lane % width + by < width ? lane + by : lane;
  });
  check_exchange(Exchange::up,
                 [](int lane, int by, int width) { return lane % width >= by ? lane - by : lane; });
}

TEST_CASE("parts of a warp vote and exchange by themselves") {
  const DeviceValues<unsigned> votes(std::vector<unsigned>(32));
  const DeviceValues<int> sums(std::vector<int>(32));
  launch(parts_kernel, 1, 32, 0, votes.data(), sums.data());
  for (const std::size_t lane : {0, 9, 20, 29}) {
    CHECK(votes.read()[lane] == 0x2aau << (lane < 20 ? 0 : 20));
    CHECK(sums.read()[lane] == (lane < 20 ? 45 : 245));
  }
}

TEST_CASE("votes") {
  const DeviceValues<int> any(std::size_t{64}), all(std::size_t{64});
  const DeviceValues<unsigned> ballot(std::size_t{64});
  for (const int limit : {0, 1, 31, 32}) {
    launch(votes_kernel, 1, 64, 0, limit, any.data(), all.data(), ballot.data());
    const auto some = any.read(), every = all.read();
    const auto bits = ballot.read();
    for (std::size_t i = 0; i < 64; ++i) {
      CHECK((some[i] != 0) == (limit > 0));
      CHECK((every[i] != 0) == (limit == 32));
      CHECK(bits[i] == (limit == 32 ? ~0u : (1u << limit) - 1));
    }
  }
}

TEST_CASE("a last warp of few threads") {
  const DeviceValues<int> sum(std::size_t{1});
  for (const int threads : {1, 2, 31, 32, 33, 50, 64, 95, 1024}) {
    launch(partial_warp_kernel, 1, static_cast<unsigned>(threads), 0, sum.data());
    CHECK(sum.read()[0] == threads * (threads - 1) / 2);
  }
}

TEST_CASE("the tensor core's product equals the loops") {
  std::vector<float> a(128), b(64);
  for (std::size_t i = 0; i < a.size(); ++i)
    a[i] = static_cast<float>(i % 37) - 11;  // every sum is exact
  for (std::size_t i = 0; i < b.size(); ++i)
    b[i] = static_cast<float>(i * i % 29) - 7;
  const std::vector<float> c = mma(a, b);
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t column = 0; column < 8; ++column) {
      float sum = 0;
      for (std::size_t k = 0; k < 8; ++k)
        sum += a[row * 8 + k] * b[k * 8 + column];
      CHECK(c[row * 8 + column] == sum);
    }
  }
}

TEST_CASE("the tensor core cuts 13 bits off, and keeps NaN") {
  std::vector<float> a(128), b(64);
  b[0] = 1;
  a[0] = 1 + 0.75f / 1024;
  CHECK(mma(a, b)[0] == 1);
  a[0] = 1 + 1.75f / 1024;
  CHECK(mma(a, b)[0] == 1 + 1.0f / 1024);
  a[0] = std::nanf("");
  CHECK(std::isnan(mma(a, b)[0]));
  CHECK(mma(a, b)[8] == 0);
}

TEST_CASE("copies in the background are there after their group's wait") {
  std::vector<float> from{1, 2, 3, 4, 5};
  const DeviceValues<float> source(from), to(std::size_t{12});
  launch(copies_kernel, 1, 1, 0, source.data(), to.data());
  CHECK(to.read() == std::vector<float>{1, 2, 3, 4, 5, -1, -1, -1, 0, 0, 0, 0});
}

TEST_CASE("barriers, in small blocks and the largest, over many blocks") {
  for (const unsigned threads : {1u, 7u, 32u, 33u, 256u, 1024u}) {
    constexpr unsigned blocks = 5;
    std::vector<int> values(threads * blocks), expected;
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<int>(i);
    const DeviceValues<int> x(values), y(values.size());
    launch(reverse_kernel, blocks, threads, threads * sizeof(int), x.data(), y.data());
    for (unsigned block = 0; block < blocks; ++block)
      for (unsigned i = 0; i < threads; ++i)
        expected.push_back(static_cast<int>(block * threads + threads - 1 - i));
    CHECK(y.read() == expected);
  }
}

TEST_CASE("grids and blocks of three dimensions") {
  constexpr int count = 2 * 3 * 4 * 5 * 6 * 7;
  const DeviceValues<int> place(std::size_t{count});
  launch(places_kernel, dim3(2, 3, 4), dim3(5, 6, 7), 0, place.data());
  const std::vector<int> places = place.read();
  for (int i = 0; i < count; ++i)
    CHECK(places[static_cast<std::size_t>(i)] == i);
}
