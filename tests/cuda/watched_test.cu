// What kernels touch, counted by an element type that is watched: 32-byte sectors, bank conflicts,
// races. docs/cuda.md shows these numbers.
#include <doctest/doctest.h>

#include <algorithm>
#include <utility>

#include "cuda/matmul_tiled.cuh"
#include "cuda/movement.cuh"
#include "cuda/on_cpu/watched.h"
#include "tests/cuda/device_values.h"

using namespace chalk::cuda;
using namespace chalk::cuda::on_cpu;

namespace {

DeviceValues<Watched> numbers(int count) {
  std::vector<Watched> values;
  for (int i = 0; i < count; ++i)
    values.push_back(static_cast<float>(i % 17));
  return DeviceValues<Watched>(values);
}

// Requests and what they cost: sectors of global memory, conflicts of shared memory.
using Cost = std::pair<long, long>;

Cost cost(const std::vector<Access>& accesses, Memory memory, Way way) {
  const Requests r = requests(accesses, memory, way);
  return {r.count, memory == Memory::global ? r.sectors : r.conflicts};
}

struct Costs {
  Cost global_reads, global_writes, shared_writes, shared_reads;
};

void check_costs(const std::vector<Access>& accesses, const Costs& expected) {
  CHECK(cost(accesses, Memory::global, Way::read) == expected.global_reads);
  CHECK(cost(accesses, Memory::global, Way::write) == expected.global_writes);
  CHECK(cost(accesses, Memory::shared, Way::write) == expected.shared_writes);
  CHECK(cost(accesses, Memory::shared, Way::read) == expected.shared_reads);
  CHECK(races(accesses).empty());
}

// y_i = x[first + stride i]
template <typename T>
__global__ void strided_kernel(int first, int stride, const T* x, T* y) {
  const int i = thread_of_grid();
  y[i] = x[first + stride * i];
}

// transpose_kernel for a single tile, whose rows in shared memory have `row` elements.
template <typename T, int row>
__global__ void transpose_tile_kernel(const T* x, T* y) {
  constexpr int side = transpose_tile;
  __shared__ T tile[side][row];
  const int across = static_cast<int>(threadIdx.x);
  for (int down = static_cast<int>(threadIdx.y); down < side; down += transpose_rows)
    tile[down][across] = x[down * side + across];
  __syncthreads();
  for (int down = static_cast<int>(threadIdx.y); down < side; down += transpose_rows)
    y[down * side + across] = tile[across][down];
}

// y_i = x_{i + 1}, and the last y is x_0, through shared memory.
__shared__ Watched part[64];

template <bool with_barrier>
__global__ void next_kernel(const Watched* x, Watched* y) {
  part[threadIdx.x] = x[threadIdx.x];
  if (with_barrier) __syncthreads();
  y[threadIdx.x] = part[(threadIdx.x + 1) % blockDim.x];
}

}  // namespace

TEST_CASE("a warp that reads neighbours takes 4 sectors, of elements far apart 32") {
  const auto x = numbers(32 * 64 + 1), y = numbers(32);
  const auto sectors = [&](int first, int stride) {
    return cost(watch([&] {
                  launch(strided_kernel<Watched>, 1, 32, 0, first, stride, x.data(), y.data());
                }),
                Memory::global, Way::read);
  };
  CHECK(sectors(0, 1) == Cost{1, 4});
  CHECK(sectors(1, 1) == Cost{1, 5});
  CHECK(sectors(0, 2) == Cost{1, 8});
  CHECK(sectors(0, 8) == Cost{1, 32});
  CHECK(sectors(0, 64) == Cost{1, 32});
  CHECK(sectors(0, 0) == Cost{1, 1});
}

TEST_CASE("what the rungs of the matrix product touch, 64 x 64 x 64") {
  constexpr int n = 64;
  const auto a = numbers(n * n), b = numbers(n * n), c = numbers(n * n);
  const MatrixProduct<Watched> p{1, n, n, n, {a.data(), 0, n, 1}, {b.data(), 0, 1, n}, c.data()};
  check_costs(watch([&] { matmul_naive(p); }), {{16384, 40960}, {128, 512}, {0, 0}, {0, 0}});
  const std::vector<Watched> expected = c.read();
  check_costs(watch([&] { matmul_tiled<Watched, 1>(p); }),
              {{1024, 4096}, {128, 512}, {1024, 1024}, {16384, 0}});
  CHECK(c.read() == expected);
  check_costs(watch([&] { matmul_tiled<Watched, 4>(p); }),
              {{256, 1024}, {128, 2048}, {256, 128}, {16384, 8192}});
  CHECK(c.read() == expected);
}

TEST_CASE("a transpose has no bank conflicts, but for a row of 32 in its tile") {
  const auto x = numbers(64 * 96), y = numbers(64 * 96);
  check_costs(watch([&] {
                permute({64, 96}, {1, 0}, x.data(), y.data());
              }),
              {{192, 768}, {192, 768}, {192, 0}, {192, 0}});
  const dim3 threads(transpose_tile, transpose_rows);
  const auto tile = [&](void (*kernel)(const Watched*, Watched*)) {
    return watch([&] { launch(kernel, 1, threads, 0, x.data(), y.data()); });
  };
  check_costs(tile(transpose_tile_kernel<Watched, 33>), {{32, 128}, {32, 128}, {32, 0}, {32, 0}});
  check_costs(tile(transpose_tile_kernel<Watched, 32>),
              {{32, 128}, {32, 128}, {32, 0}, {32, 32 * 31}});
}

TEST_CASE("a missing barrier is a race of each element's writer with its reader") {
  const auto x = numbers(64), y = numbers(64);
  const auto run = [&](void (*kernel)(const Watched*, Watched*)) {
    return races(watch([&] { launch(kernel, 1, 64, 0, x.data(), y.data()); }));
  };
  CHECK(run(next_kernel<true>).empty());
  auto found = run(next_kernel<false>);
  std::sort(found.begin(), found.end(), [](const Race& one, const Race& other) {
    return one.first.address < other.first.address;
  });
  REQUIRE(found.size() == 64);
  for (int i = 0; i < 64; ++i) {
    auto [writer, reader] = found[static_cast<std::size_t>(i)];
    if (writer.way == Way::read) std::swap(writer, reader);  // whichever came first
    CHECK(writer.address == &part[i]);
    CHECK(writer.thread == i);
    CHECK(reader.address == &part[i]);
    CHECK(reader.thread == (i + 63) % 64);
  }
}
