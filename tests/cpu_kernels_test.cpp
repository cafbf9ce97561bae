// The CPU's kernels against their definitions, written as plainly as possible: odd and empty
// sizes, NaN, and the same bits for any number of threads.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "autograd/check.h"
#include "autograd/cpu/batch_norm.h"
#include "autograd/cpu/ladders.h"
#include "autograd/cpu/movement.h"
#include "autograd/cpu/pool.h"
#include "autograd/cpu/random_fill.h"

using namespace chalk;

namespace {

// In [-1, 1), and in steps of 1/8, so that equal maxima occur.
template <typename T>
std::vector<T> numbers(Index count, std::uint64_t seed = 1, bool coarse = false) {
  std::vector<T> result;
  for (Index i = 0; i < count; ++i) {
    const double u = 2 * Generator::uniform_at(seed, static_cast<std::uint64_t>(i)) - 1;
    result.push_back(static_cast<T>(coarse ? std::floor(8 * u) / 8 : u));
  }
  return result;
}

template <typename T>
std::vector<T> zeros(Index count) {
  return std::vector<T>(static_cast<std::size_t>(count));
}

// Equal up to the rounding of T, relative to the largest number; NaN equals NaN.
template <typename T>
void check_close(const std::vector<T>& actual, const std::vector<double>& expected,
                 double units = 8) {
  REQUIRE(actual.size() == expected.size());
  double largest = 1;
  for (double value : expected)
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double value = static_cast<double>(actual[i]);
    if (std::isnan(expected[i]) && std::isnan(value)) continue;
    if (value == expected[i]) continue;
    CHECK_MESSAGE(std::abs(value - expected[i]) <=
                      units * largest * static_cast<double>(std::numeric_limits<T>::epsilon()),
                  "element ", i, ": ", value, ", expected ", expected[i]);
  }
}

const AxisSizes axis_sizes[] = {{1, 1, 1},     {3, 7, 1},     {2, 5, 3},  {1, 100003, 1},
                                {5, 2049, 1},  {2, 0, 3},     {0, 4, 2},  {2, 4, 0},
                                {1, 3001, 67}, {3, 130, 129}, {2, 3, 64}, {700, 64, 1}};

}  // namespace

// ---- exp ----

TEST_CASE("exponential is exp within 1.1 units in the last place for every float32") {
  double worst = 0;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 97) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    const float y = cpu::exponential(x);
    const double exact = std::exp(static_cast<double>(x));
    const float rounded = static_cast<float>(exact);
    if (std::isnan(x) || std::isinf(rounded) || rounded == 0) {
      CHECK((std::isnan(x) ? std::isnan(y) : y == rounded));
      continue;
    }
    const double unit = static_cast<double>(
        std::nextafter(rounded, std::numeric_limits<float>::infinity()) - rounded);
    worst = std::max(worst, std::abs(static_cast<double>(y) - exact) / unit);
  }
  CHECK(worst < 1.1);
}

TEST_CASE_TEMPLATE("exponential of special numbers", T, float, double) {
  const T infinity = std::numeric_limits<T>::infinity();
  CHECK(cpu::exponential(T(0)) == 1);
  CHECK(cpu::exponential(infinity) == infinity);
  CHECK(cpu::exponential(-infinity) == 0);
  CHECK(std::isnan(cpu::exponential(std::numeric_limits<T>::quiet_NaN())));
  CHECK(cpu::logistic(-infinity) == 0);
  CHECK(cpu::logistic(infinity) == 1);
}

// ---- elementwise ----

TEST_CASE_TEMPLATE("binary broadcasts as its definition says", T, float, double) {
  struct Case {
    Shape a, b, y;
  };
  const Case cases[] = {{{}, {}, {}},
                        {{3}, {}, {3}},
                        {{2, 3}, {2, 3}, {2, 3}},
                        {{4, 3, 5}, {5}, {4, 3, 5}},
                        {{4, 1, 1, 5}, {4, 3, 2, 5}, {4, 3, 2, 5}},
                        {{4, 3, 2, 5}, {4, 3, 2, 1}, {4, 3, 2, 5}},
                        {{4, 1}, {1, 7}, {4, 7}},
                        {{3, 1, 5, 1}, {7, 1, 2}, {3, 7, 5, 2}},
                        {{1}, {6, 0}, {6, 0}},
                        {{1, 70000}, {1}, {1, 70000}},
                        {{300, 1, 64}, {300, 9, 64}, {300, 9, 64}}};
  for (const Case& test : cases) {
    const auto a = numbers<T>(element_count(test.a), 1), b = numbers<T>(element_count(test.b), 2);
    Tensor y(test.y, dtype_of<T>());
    std::vector<double> expected;
    const auto at = [&](const Shape& shape, Index i) {  // where element i of y reads
      Index offset = 0, stride = 1;
      for (std::size_t back = 1; back <= test.y.size(); i /= test.y[test.y.size() - back++]) {
        if (back > shape.size()) continue;
        const Index size = shape[shape.size() - back];
        offset += size == 1 ? 0 : i % test.y[test.y.size() - back] * stride;
        stride *= size;
      }
      return static_cast<std::size_t>(offset);
    };
    for (Index i = 0; i < element_count(test.y); ++i)
      expected.push_back(static_cast<double>(a[at(test.a, i)] - b[at(test.b, i)]));
    backend(Device::cpu, dtype_of<T>())
        .binary(Binary::subtract, Tensor::from(a, test.a), Tensor::from(b, test.b), y);
    check_close(y.to_vector<T>(), expected, 0);
  }
}

TEST_CASE_TEMPLATE("relu keeps NaN", T, float, double) {
  Backend& cpu = backend(Device::cpu, dtype_of<T>());
  const Tensor x = Tensor::from<T>({std::numeric_limits<T>::quiet_NaN(), -1, 0, 2}, {4});
  Tensor y(x.shape(), x.dtype()), dx(x.shape(), x.dtype());
  cpu.unary(Unary::relu, x, y);
  check_close(y.to_vector<T>(), {NAN, 0, 0, 2}, 0);
  cpu.unary_backward(Unary::relu, x, y, Tensor::from<T>({5, 6, 7, 8}, {4}), dx);
  check_close(dx.to_vector<T>(), {5, 0, 0, 8}, 0);
}

// ---- along an axis ----

TEST_CASE_TEMPLATE("sum", T, float, double) {
  for (const AxisSizes& s : axis_sizes) {
    const auto x = numbers<T>(s.outer * s.length * s.inner);
    std::vector<T> y = zeros<T>(s.outer * s.inner);
    std::vector<double> expected(y.size());
    for (Index o = 0; o < s.outer; ++o)
      for (Index l = 0; l < s.length; ++l)
        for (Index i = 0; i < s.inner; ++i)
          expected[static_cast<std::size_t>(o * s.inner + i)] +=
              static_cast<double>(x[static_cast<std::size_t>((o * s.length + l) * s.inner + i)]);
    cpu::sum(s, x.data(), y.data());
    check_close(y, expected, sizeof(T) == 4 ? 64 : 1000);  // of a sum, where parts are much larger
  }
}

TEST_CASE_TEMPLATE("max finds the first maximum, and the first NaN before any", T, float, double) {
  for (const bool with_nan : {false, true}) {
    for (const AxisSizes& s : axis_sizes) {
      if (s.length == 0) continue;
      auto x = numbers<T>(s.outer * s.length * s.inner, 3, true);
      for (std::size_t i = 5; with_nan && i < x.size(); i += 131)
        x[i] = std::numeric_limits<T>::quiet_NaN();
      std::vector<T> y = zeros<T>(s.outer * s.inner), dx = zeros<T>(s.outer * s.length * s.inner);
      std::vector<std::int64_t> position(y.size());
      std::vector<double> expected, expected_dx(x.size());
      std::vector<std::int64_t> expected_position;
      const auto dy = numbers<T>(s.outer * s.inner, 4);
      for (Index o = 0; o < s.outer; ++o) {
        for (Index i = 0; i < s.inner; ++i) {
          const auto at = [&](Index l) {
            return static_cast<std::size_t>((o * s.length + l) * s.inner + i);
          };
          Index best = 0;
          for (Index l = 1; l < s.length; ++l)
            if (!std::isnan(x[at(best)]) && (std::isnan(x[at(l)]) || x[at(l)] > x[at(best)]))
              best = l;
          expected.push_back(static_cast<double>(x[at(best)]));
          expected_position.push_back(best);
          expected_dx[at(best)] =
              static_cast<double>(dy[static_cast<std::size_t>(o * s.inner + i)]);
        }
      }
      cpu::max(s, x.data(), y.data(), position.data());
      check_close(y, expected, 0);
      CHECK(position == expected_position);
      cpu::max_backward(s, position.data(), dy.data(), dx.data());
      check_close(dx, expected_dx, 0);
    }
  }
}

// ---- pooling ----

TEST_CASE_TEMPLATE("max_pool2d and its gradient", T, float, double) {
  const Pool2dSizes cases[] = {
      {2, 7, 5, 3, 3, 2, 1},  {1, 1, 1, 1, 1, 1, 0}, {1, 4, 6, 65, 2, 2, 0},
      {2, 8, 8, 64, 3, 2, 1}, {1, 9, 4, 2, 4, 3, 2}, {2, 5, 5, 130, 3, 1, 1},
      {0, 4, 4, 2, 2, 2, 0},  {1, 4, 4, 0, 2, 2, 0}, {1, 9, 9, 1, 2, 5, 0}};
  for (const Pool2dSizes& s : cases) {
    const Index out = s.batch * s.out_height() * s.out_width() * s.channels;
    auto x = numbers<T>(s.batch * s.height * s.width * s.channels, 5, true);
    for (std::size_t i = 40; i < x.size(); i += 41)
      x[i] = i % 2 ? std::numeric_limits<T>::quiet_NaN() : -std::numeric_limits<T>::infinity();
    const auto dy = numbers<T>(out, 6);
    std::vector<T> y = zeros<T>(out), dx = zeros<T>(static_cast<Index>(x.size()));
    std::vector<std::uint8_t> position(y.size()), expected_position(y.size());
    std::vector<double> expected(y.size()), expected_dx(x.size());
    for (Index i = 0; i < out; ++i) {
      const Index c = i % s.channels, w = i / s.channels % s.out_width();
      const Index h = i / s.channels / s.out_width() % s.out_height();
      const Index n = i / s.channels / s.out_width() / s.out_height();
      std::size_t best = x.size();
      for (Index tap = 0; tap < s.kernel * s.kernel; ++tap) {
        const Index p = h * s.stride - s.padding + tap / s.kernel;
        const Index q = w * s.stride - s.padding + tap % s.kernel;
        if (p < 0 || p >= s.height || q < 0 || q >= s.width) continue;
        const auto at =
            static_cast<std::size_t>(((n * s.height + p) * s.width + q) * s.channels + c);
        if (best < x.size() && (std::isnan(x[best]) || !(std::isnan(x[at]) || x[at] > x[best])))
          continue;
        best = at;
        expected_position[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(tap);
      }
      expected[static_cast<std::size_t>(i)] = static_cast<double>(x[best]);
      expected_dx[best] += static_cast<double>(dy[static_cast<std::size_t>(i)]);
    }
    cpu::max_pool2d(s, x.data(), y.data(), position.data());
    check_close(y, expected, 0);
    CHECK(position == expected_position);
    cpu::max_pool2d_backward(s, position.data(), dy.data(), dx.data());
    check_close(dx, expected_dx, 4);
  }
}

// ---- normalisation ----

TEST_CASE_TEMPLATE("mean and variance survive a mean far from 0", T, float, double) {
  const Index rows = 3001, channels = 5;
  auto x = numbers<T>(rows * channels);
  for (T& value : x)
    value = 1000 + value / 8;
  std::vector<T> mean(5), variance(5);
  cpu::mean_variance(rows, channels, x.data(), mean.data(), variance.data());
  for (Index c = 0; c < channels; ++c) {
    double m = 0, v = 0;
    for (Index r = 0; r < rows; ++r)
      m += static_cast<double>(x[static_cast<std::size_t>(r * channels + c)]) / rows;
    for (Index r = 0; r < rows; ++r)
      v += std::pow(static_cast<double>(x[static_cast<std::size_t>(r * channels + c)]) - m, 2) /
           rows;
    CHECK(static_cast<double>(mean[static_cast<std::size_t>(c)]) ==
          doctest::Approx(m).epsilon(1e-7));
    CHECK(static_cast<double>(variance[static_cast<std::size_t>(c)]) ==
          doctest::Approx(v).epsilon(1e-6));
  }
}

// ---- movement ----

TEST_CASE_TEMPLATE("permute", T, float, double) {
  struct Case {
    Shape shape;
    std::vector<Index> axes;
  };
  const Case cases[] = {{{}, {}},
                        {{5}, {0}},
                        {{2, 3}, {1, 0}},
                        {{2, 3, 4, 5}, {0, 3, 1, 2}},
                        {{2, 3, 4, 5}, {0, 2, 3, 1}},
                        {{2, 3, 4, 5}, {3, 2, 1, 0}},
                        {{2, 3, 4, 5}, {2, 1, 0, 3}},
                        {{3, 1, 67, 1}, {3, 2, 1, 0}},
                        {{130, 70}, {1, 0}},
                        {{0, 3}, {1, 0}},
                        {{1, 1, 1}, {2, 0, 1}},
                        {{7, 7, 3, 64}, {3, 2, 0, 1}}};
  for (const Case& test : cases) {
    const auto x = numbers<T>(element_count(test.shape));
    std::vector<T> y = zeros<T>(element_count(test.shape));
    std::vector<double> expected;
    for (Index i = 0; i < element_count(test.shape); ++i) {
      Index rest = i, from = 0;
      for (std::size_t a = test.axes.size(); a-- > 0;) {
        const auto axis = static_cast<std::size_t>(test.axes[a]);
        Index stride = 1;
        for (std::size_t later = axis + 1; later < test.shape.size(); ++later)
          stride *= test.shape[later];
        from += rest % test.shape[axis] * stride;
        rest /= test.shape[axis];
      }
      expected.push_back(static_cast<double>(x[static_cast<std::size_t>(from)]));
    }
    cpu::permute(test.shape, test.axes, x.data(), y.data());
    check_close(y, expected, 0);
  }
}

TEST_CASE("casts cut off the fraction and keep within the range") {
  const std::vector<double> x = {-1e30, -1.9, NAN, 2.9, 255.5, 300, 1e30};
  std::vector<std::uint8_t> bytes(x.size());
  std::vector<std::int64_t> integers(x.size());
  cpu::cast(7, x.data(), bytes.data());
  cpu::cast(7, x.data(), integers.data());
  CHECK(bytes == std::vector<std::uint8_t>{0, 0, 0, 2, 255, 255, 255});
  CHECK(integers == std::vector<std::int64_t>{INT64_MIN, -1, 0, 2, 255, 300, INT64_MAX});
}

TEST_CASE("uniform float32 numbers never round up to 1") {
  std::vector<float> y(200000);
  cpu::uniform(200000, 7, 0, y.data());
  for (float value : y)
    CHECK((value >= 0 && value < 1));
}

// ---- threads ----

// What every kernel makes whose result could depend on how its work is shared out.
std::vector<Tensor> everything(DType dtype) {
  Backend& cpu = backend(Device::cpu, dtype);
  const Index rows = 5003, columns = 67;
  Generator generator{1, 0};
  const Tensor x = Tensor::randn({rows, columns}, generator, dtype);
  const Tensor dy = Tensor::randn({rows, columns}, generator, dtype);
  const Tensor gamma = Tensor::rand({columns}, generator, dtype),
               beta = Tensor::rand({columns}, generator, dtype);
  std::vector<Tensor> all = {x, dy};
  const auto result = [&](const Shape& shape) { return all.emplace_back(shape, dtype); };

  Tensor sigmoid = result(x.shape()), total = result({}), sum = result({columns});
  cpu.unary(Unary::sigmoid, x, sigmoid);
  cpu.sum({1, x.numel(), 1}, x, total);
  cpu.sum({1, rows, columns}, x, sum);
  Tensor softmax = result(x.shape());
  cpu.softmax(x, false, softmax);

  RunningStatistics running{beta.clone(), gamma.clone(), Tensor()};
  BatchNormState state{result({columns}), result({columns})};
  Tensor y = result(x.shape());
  cpu.batch_norm_statistics(x, true, 0.1, 1e-5, running, state);
  cpu.batch_norm(x, state, gamma, beta, true, y);
  Tensor dx = result(x.shape()), dgamma = result({columns}), dbeta = result({columns});
  cpu.batch_norm_backward(x, state, gamma, beta, true, true, dy, dx, dgamma, dbeta);

  Tensor row_mean = result({rows}), row_inverse_std = result({rows});
  y = result(x.shape());
  cpu.layer_norm(x, gamma, beta, 1e-5, y, row_mean, row_inverse_std);
  dx = result(x.shape()), dgamma = result({columns}), dbeta = result({columns});
  cpu.layer_norm_backward(x, row_mean, row_inverse_std, gamma, dy, dx, dgamma, dbeta);

  std::vector<Tensor> m = {dy.clone()}, v = {softmax.clone()}, w = {all.emplace_back(x.clone())};
  Tensor steps = Tensor::zeros({1}, DType::int64);
  cpu.adamw_step({0.9, 0.999, 1e-8, 0.01}, Tensor::full({}, 0.1, DType::float64), {dy}, steps, m, v,
                 w);
  return all;
}

TEST_CASE_TEMPLATE("the number of threads changes no bit", T, float, double) {
  cpu::set_num_threads(1);
  const std::vector<Tensor> one = everything(dtype_of<T>());
  for (int threads : {2, 3}) {
    cpu::set_num_threads(threads);
    const std::vector<Tensor> several = everything(dtype_of<T>());
    for (std::size_t i = 0; i < one.size(); ++i)
      CHECK(std::memcmp(one[i].data<T>(), several[i].data<T>(),
                        static_cast<std::size_t>(one[i].numel()) * sizeof(T)) == 0);
  }
  cpu::set_num_threads(0);
}

TEST_CASE("the rungs of convolutions and products can be chosen by name") {
  CHECK(cpu::conv_rung_named("gemm") == cpu::ConvRung::gemm);
  CHECK(cpu::conv_rung_named("winograd4") == cpu::ConvRung::winograd4);
  CHECK_THROWS_WITH_AS(cpu::conv_rung_named("fast"), doctest::Contains("winograd4"), Error);
  CHECK(cpu::matmul_rung_named("blocked") == cpu::MatmulRung::blocked);
  CHECK_THROWS_WITH_AS(cpu::matmul_rung_named(""), doctest::Contains("loops, eigen, blocked"),
                       Error);
}
