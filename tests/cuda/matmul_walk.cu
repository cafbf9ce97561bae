// A small matrix product by tiles in shared memory, to walk through in a debugger: see
// docs/cuda_without_gpu.md. Element [i, k] of A is 100 i + k, so that a tile shows what it holds,
// and B is the unit matrix, so that C is A. Of int, since the library has no such kernel: this one
// is compiled with this file, for a debugger.
#include <cstdio>
#include <vector>

#include "cuda/matmul_tiled.cuh"
#include "tests/cuda/device_values.h"

using namespace chalk::cuda;

int main() {
  constexpr int rows = 20, inner = 24, columns = 24;
  std::vector<int> a, b;
  for (int i = 0; i < rows; ++i)
    for (int k = 0; k < inner; ++k)
      a.push_back(100 * i + k);
  for (int k = 0; k < inner; ++k)
    for (int j = 0; j < columns; ++j)
      b.push_back(k == j ? 1 : 0);
  const DeviceValues<int> on_device_a(a), on_device_b(b), c(std::size_t{rows * columns});

  matmul_tiled<int, 1>({1,
                        rows,
                        inner,
                        columns,
                        {on_device_a.data(), 0, inner, 1},    // A lies row by row,
                        {on_device_b.data(), 0, 1, columns},  // B too: its columns are apart
                        c.data()});
  const bool right = c.read() == a;
  std::puts(right ? "C = A, as it must be" : "C is not A");
  return right ? 0 : 1;
}
