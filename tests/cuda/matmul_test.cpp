// Matrix products on CUDA: every rung, type, transposition and batch against the CPU's.
#include <limits>
#include <random>

#include "autograd/backend.h"
#include "cuda/ladders.h"
#include "tests/testing.h"

using namespace chalk;
using cuda::MatmulRung;

namespace {

// Puts back what the tests below set.
struct Settings {
  MatmulRung rung = cuda::matmul_rung();
  bool convolutions = cuda::tf32_in_convolutions(), products = cuda::tf32_in_products();
  ~Settings() {
    cuda::set_matmul_rung(rung);
    cuda::set_tf32(convolutions, products);
  }
};

struct Product {
  Index batch, rows, inner, columns;
  bool one_a = false, one_b = false;  // one matrix for the whole batch
};

template <typename T>
Tensor whole_numbers(Shape shape, Index step, Index modulus) {
  std::vector<T> values(static_cast<std::size_t>(element_count(shape)));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<T>(static_cast<Index>(i) * step % modulus - modulus / 2);
  return Tensor::from(values, shape);
}

// op(a) op(b) on a device, of matrices that lie there transposed if the flag is set.
template <typename T>
std::vector<T> product(Device device, const Product& p, const Tensor& a, bool transpose_a,
                       const Tensor& b, bool transpose_b) {
  const Tensor a_there = a.to(device), b_there = b.to(device);
  Tensor y = Tensor::full({p.batch, p.rows, p.columns}, std::numeric_limits<double>::quiet_NaN(),
                          a.dtype(), device);
  backend_for(y).matmul(a_there, transpose_a, b_there, transpose_b, y);
  return y.to(Device::cpu).to_vector<T>();
}

// Calls visit(rung, its name) for every rung.
template <typename Visit>
void for_each_rung(const Visit& visit) {
  const auto& names = cuda::matmul_rung_names();
  for (std::size_t i = 0; i < names.size(); ++i) {
    INFO("rung ", std::string(names[i]));
    cuda::set_matmul_rung(static_cast<MatmulRung>(i));
    visit();
  }
}

// Of small whole numbers, which TF32 has exactly, as their sums are in float.
template <typename T>
void check_product(const Product& p) {
  const Index a_count = p.one_a ? 1 : p.batch, b_count = p.one_b ? 1 : p.batch;
  INFO(p.batch, " x ", p.rows, " x ", p.inner, " x ", p.columns);
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      INFO("transposed ", transpose_a, " ", transpose_b);
      const Tensor a = whole_numbers<T>(
          transpose_a ? Shape{a_count, p.inner, p.rows} : Shape{a_count, p.rows, p.inner}, 7, 13);
      const Tensor b = whole_numbers<T>(
          transpose_b ? Shape{b_count, p.columns, p.inner} : Shape{b_count, p.inner, p.columns}, 5,
          11);
      const auto on = [&](Device device) {
        return product<T>(device, p, a, transpose_a, b, transpose_b);
      };
      const std::vector<T> expected = on(Device::cpu);
      for_each_rung([&] { CHECK(on(Device::cuda) == expected); });
    }
  }
}

double distance(const std::vector<float>& x, const std::vector<float>& y) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    difference += std::pow(x[i] - y[i], 2);
    norm += std::pow(y[i], 2);
  }
  return std::sqrt(difference / norm);
}

}  // namespace

TEST_CASE("matrix products on cuda equal the CPU's on every rung") {
  const Settings settings;
  std::mt19937 random(1);
  const auto up_to = [&](Index most) { return static_cast<Index>(random()) % most + 1; };
  for (const bool tf32 : {false, true}) {
    cuda::set_tf32(true, tf32);
    for (int i = 0; i < 4; ++i) {
      check_product<float>({1, up_to(140), up_to(70), up_to(140)});
      check_product<float>({2, 4 * up_to(20), 4 * up_to(20), 4 * up_to(20)});  // copies of 16 bytes
      check_product<double>({2, up_to(70), up_to(50), up_to(70)});
    }
  }
}

TEST_CASE("matrix products on cuda of shared matrices, of few steps, of nothing") {
  const Settings settings;
  cuda::set_tf32(true, true);
  check_product<float>({3, 20, 36, 24, true, false});
  check_product<float>({3, 5, 7, 9, false, true});
  check_product<double>({2, 17, 33, 5, true, true});
  for (const Index inner : {0, 1, 16, 17, 48, 64})
    check_product<float>({1, 3, inner, 4});
  check_product<float>({0, 3, 4, 5});
  check_product<float>({2, 0, 4, 5});
  check_product<double>({2, 4, 4, 0});
}

TEST_CASE("matrix products on cuda round to TF32 only where they may") {
  const Settings settings;
  Generator generator{1, 0};
  const Product p{1, 33, 130, 65};
  const Tensor a = Tensor::randn({1, p.rows, p.inner}, generator);
  const Tensor b = Tensor::randn({1, p.inner, p.columns}, generator);
  const auto expected = product<float>(Device::cpu, p, a, false, b, false);
  for_each_rung([&] {
    cuda::set_tf32(true, false);
    CHECK(distance(product<float>(Device::cuda, p, a, false, b, false), expected) < 1e-6);
    cuda::set_tf32(false, true);
    const bool rounded = cuda::matmul_rung() >= MatmulRung::tensor;
    const double error = distance(product<float>(Device::cuda, p, a, false, b, false), expected);
    CHECK(error < (rounded ? 5e-4 : 1e-6));
    CHECK((error > 1e-5) == rounded);
  });
}
