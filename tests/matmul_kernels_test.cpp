// Matrix products: every rung, shape, transposition and batch against the three loops, and all of
// them against Eigen.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "autograd/cpu/matmul.h"

using namespace chalk;

namespace {

// Small whole numbers: every sum is exact, in float too, so the results must be equal.
template <typename T>
std::vector<T> whole_numbers(Index count, Index step, Index modulus) {
  std::vector<T> values(count);
  for (Index i = 0; i < count; ++i)
    values[i] = static_cast<T>(i * step % modulus - modulus / 2);
  return values;
}

template <typename T>
void check_matmul(Index batch, Index rows, Index inner, Index columns, bool one_a, bool one_b) {
  const auto a = whole_numbers<T>((one_a ? 1 : batch) * rows * inner, 7, 13);
  const auto b = whole_numbers<T>((one_b ? 1 : batch) * inner * columns, 5, 11);
  const Index a_stride = one_a ? 0 : rows * inner, b_stride = one_b ? 0 : inner * columns;
  const std::vector<T> nothing(batch * rows * columns, std::numeric_limits<T>::quiet_NaN());
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      const auto product = [&](cpu::MatmulRung rung) {
        std::vector<T> c = nothing;
        cpu::matmul(batch, rows, inner, columns, a.data(), a_stride, transpose_a, b.data(),
                    b_stride, transpose_b, c.data(), rung);
        return c;
      };
      INFO(batch, " x ", rows, " x ", inner, " x ", columns);
      const std::vector<T> expected = product(cpu::MatmulRung::loops);
      CHECK(product(cpu::MatmulRung::eigen) == expected);
      CHECK(product(cpu::MatmulRung::blocked) == expected);
    }
  }
}

}  // namespace

TEST_CASE("matmul multiplies a known pair") {
  const std::vector<double> a = {1, 2, 3, 4, 5, 6};  // 2 x 3, or transposed 3 x 2
  const std::vector<double> b = {1, 0, 2, -1, 3, 1};
  std::vector<double> c(4);
  cpu::matmul(1, 2, 3, 2, a.data(), 0, false, b.data(), 0, false, c.data());
  CHECK(c == std::vector<double>{14, 1, 32, 1});
  cpu::matmul(1, 2, 3, 2, a.data(), 0, true, b.data(), 0, true, c.data());
  CHECK(c == std::vector<double>{11, 13, 14, 16});
}

TEST_CASE("matmul equals the three loops") {
  for (const Index rows : {1, 2, 7, 8, 9, 33, 130}) {
    for (const Index columns : {1, 3, 16, 17, 32, 33, 70}) {
      for (const Index inner : {0, 1, 5, 64, 100}) {
        check_matmul<float>(1, rows, inner, columns, false, false);
        check_matmul<double>(2, rows, inner, columns, false, false);
      }
    }
  }
}

TEST_CASE("matmul with batches, shared matrices and blocks of the inner dimension") {
  for (const bool one_a : {false, true}) {
    for (const bool one_b : {false, true}) {
      check_matmul<float>(32, 4, 64, 4, one_a, one_b);
      check_matmul<double>(3, 50, 70, 90, one_a, one_b);
    }
  }
  check_matmul<float>(1, 70, 5000, 40, false, false);
  check_matmul<double>(1, 20, 9000, 3, false, false);
  check_matmul<float>(1, 3, 600, 1100, false, false);
  check_matmul<float>(0, 3, 4, 5, false, false);
  check_matmul<float>(2, 0, 4, 5, false, false);
  check_matmul<float>(2, 4, 4, 0, false, false);
}
