// The convolution's rungs: against PyTorch, against one another, and their rounding errors.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "autograd/cpu/ladders.h"
#include "autograd/cpu/parallel.h"

using namespace chalk;
using cpu::ConvRung;

namespace {

const std::vector<ConvRung> all_rungs = {ConvRung::automatic, ConvRung::direct,
                                         ConvRung::im2col,    ConvRung::gemm,
                                         ConvRung::winograd2, ConvRung::winograd4};

std::string rung_name(ConvRung rung) {
  return std::string(cpu::conv_rung_names()[static_cast<std::size_t>(rung)]);
}

Index input_count(const Conv2dSizes& s) {
  return s.batch * s.height * s.width * s.in_channels;
}
Index output_count(const Conv2dSizes& s) {
  return s.batch * std::max<Index>(0, s.out_height()) * std::max<Index>(0, s.out_width()) *
         s.out_channels;
}
Index weight_count(const Conv2dSizes& s) {
  return s.kernel_height * s.kernel_width * s.in_channels / s.groups * s.out_channels;
}

// The results of the three passes; they start as NaN, so that an element not written shows.
template <typename T>
struct Passes {
  std::vector<T> y, dx, dw;

  Passes(const Conv2dSizes& s, const std::vector<T>& x, const std::vector<T>& w,
         const std::vector<T>& dy, ConvRung rung)
      : y(output_count(s), std::numeric_limits<T>::quiet_NaN()),
        dx(input_count(s), std::numeric_limits<T>::quiet_NaN()),
        dw(weight_count(s), std::numeric_limits<T>::quiet_NaN()) {
    cpu::conv2d_forward(s, x.data(), w.data(), y.data(), rung);
    cpu::conv2d_backward_input(s, dy.data(), w.data(), dx.data(), rung);
    cpu::conv2d_backward_weight(s, x.data(), dy.data(), dw.data(), rung);
  }
};

template <typename T>
std::vector<T> pattern(Index count, Index step, Index modulus) {
  std::vector<T> values(count);
  for (Index i = 0; i < count; ++i)
    values[i] = static_cast<T>(i * step % modulus - modulus / 2);
  return values;
}

template <typename T>
double dot_with_pattern(const std::vector<T>& values) {
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i)
    sum += values[i] * (double(i * 5 % 23) - 11);
  return sum;
}

std::vector<double> random_values(Index count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(count);
  for (double& value : values)
    value = static_cast<float>(normal(engine));
  return values;
}

template <typename T>
std::vector<T> convert(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

// |a - b| / |b| in the Euclidean norm; NaN anywhere gives NaN.
template <typename T>
double relative_error(const std::vector<T>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double difference = 0, norm = 1e-300;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

template <typename T>
void check_against_direct(const Conv2dSizes& s, ConvRung rung, double tolerance) {
  const auto x = random_values(input_count(s), 1), w = random_values(weight_count(s), 2),
             dy = random_values(output_count(s), 3);
  const Passes<double> expected(s, x, w, dy, ConvRung::direct);
  const Passes<T> passes(s, convert<T>(x), convert<T>(w), convert<T>(dy), rung);
  CAPTURE(rung_name(rung));
  CHECK(relative_error(passes.y, expected.y) <= tolerance);
  CHECK(relative_error(passes.dx, expected.dx) <= tolerance);
  CHECK(relative_error(passes.dw, expected.dw) <= tolerance);
}

std::string describe(const Conv2dSizes& s) {
  std::ostringstream text;
  text << s.batch << " x " << s.height << " x " << s.width << " x " << s.in_channels << ", kernel "
       << s.kernel_height << " x " << s.kernel_width << " to " << s.out_channels << ", stride "
       << s.stride << ", padding " << s.padding << ", groups " << s.groups;
  return text.str();
}

}  // namespace

TEST_CASE("every rung computes what PyTorch computes") {
  std::ifstream file(CHALK_FIXTURES "/conv2d_kernels.txt");
  REQUIRE(file.good());
  int lines = 0;
  Conv2dSizes s{};
  double y, dx, dw;
  while (file >> s.batch >> s.height >> s.width >> s.in_channels >> s.kernel_height >>
         s.kernel_width >> s.out_channels >> s.stride >> s.padding >> s.groups >> y >> dx >> dw) {
    ++lines;
    CAPTURE(describe(s));
    for (const ConvRung rung : all_rungs) {
      CAPTURE(rung_name(rung));
      const Passes<double> passes(s, pattern<double>(input_count(s), 7, 11),
                                  pattern<double>(weight_count(s), 3, 13),
                                  pattern<double>(output_count(s), 4, 9), rung);
      const bool exact = rung == ConvRung::direct || rung == ConvRung::im2col ||
                         rung == ConvRung::gemm;  // sums of whole numbers
      const double tolerance = exact ? 0 : 1e-6;
      CHECK(std::abs(dot_with_pattern(passes.y) - y) <= tolerance);
      CHECK(std::abs(dot_with_pattern(passes.dx) - dx) <= tolerance);
      CHECK(std::abs(dot_with_pattern(passes.dw) - dw) <= tolerance);
    }
  }
  CHECK(lines == 23);
}

TEST_CASE("every rung equals the direct loops on any shape") {
  std::mt19937 engine(7);
  const auto one_of = [&](std::vector<Index> choices) {
    return choices[engine() % choices.size()];
  };
  for (int trial = 0; trial < 60; ++trial) {
    Conv2dSizes s{};
    s.groups = one_of({1, 1, 1, 2, 3, 8});
    s.batch = one_of({0, 1, 2, 3});
    s.height = one_of({1, 2, 3, 7, 12, 17});
    s.width = one_of({1, 2, 3, 8, 13, 40});
    s.in_channels = s.groups * one_of({1, 2, 3, 16, 17, 40});
    s.out_channels = s.groups * one_of({1, 3, 8, 16, 17, 33, 70});
    s.kernel_height = one_of({1, 2, 3, 3, 3, 4, 5, 7});
    s.kernel_width = one_of({1, 2, 3, s.kernel_height, s.kernel_height, s.kernel_height});
    s.stride = one_of({1, 1, 1, 2, 3, 4});
    s.padding = one_of({0, 1, 2, 3});
    if (s.height + 2 * s.padding < s.kernel_height - 1) continue;  // - 1: an empty output
    if (s.width + 2 * s.padding < s.kernel_width) continue;
    CAPTURE(describe(s));
    for (const ConvRung rung : all_rungs) {
      check_against_direct<float>(s, rung, 1e-5);
      check_against_direct<double>(s, rung, 1e-13);
    }
  }
}

TEST_CASE("depthwise and many groups") {
  for (const Index channels : {1, 5, 16, 100, 256}) {
    for (const Index stride : {1, 2, 4}) {
      const Conv2dSizes s{2, 9, 10, channels, 4, 4, channels, stride, 1, channels};
      CAPTURE(describe(s));
      check_against_direct<float>(s, ConvRung::automatic, 1e-6);
      check_against_direct<double>(s, ConvRung::automatic, 1e-14);
    }
  }
}

// The table that decides where winograd4 may be used: rounding errors in float32, relative to
// float64, of one convolution of random numbers; those of the first two passes grow with the root
// of the number of products in a sum.
TEST_CASE("rounding errors of the rungs") {
  struct Limit {
    ConvRung rung;
    double sums, weight_gradient;  // of the first two passes for 16 channels; of the third
  };
  const Limit limits[] = {{ConvRung::direct, 2.4e-7, 3e-7},
                          {ConvRung::im2col, 2.4e-7, 3e-7},
                          {ConvRung::gemm, 2.4e-7, 3e-7},
                          {ConvRung::winograd2, 1.9e-7, 3e-7},
                          {ConvRung::winograd4, 6e-7, 6e-7}};
  for (const Index channels : {16, 64, 256}) {
    const Conv2dSizes s{1, 14, 14, channels, 3, 3, channels, 1, 1};
    const auto x = random_values(input_count(s), 1), w = random_values(weight_count(s), 2),
               dy = random_values(output_count(s), 3);
    const Passes<double> exact(s, x, w, dy, ConvRung::direct);
    for (const Limit& limit : limits) {
      const Passes<float> passes(s, convert<float>(x), convert<float>(w), convert<float>(dy),
                                 limit.rung);
      const double growth = std::sqrt(channels / 16.0);
      INFO(channels, " channels, ", rung_name(limit.rung));
      CHECK(relative_error(passes.y, exact.y) < limit.sums * growth);
      CHECK(relative_error(passes.dx, exact.dx) < limit.sums * growth);
      CHECK(relative_error(passes.dw, exact.dw) < limit.weight_gradient);
    }
  }
}

TEST_CASE("one thread and many give the same bits") {
  for (const Conv2dSizes& s :
       {Conv2dSizes{3, 20, 22, 24, 3, 3, 40, 1, 1}, Conv2dSizes{3, 21, 22, 24, 3, 3, 40, 2, 1},
        Conv2dSizes{5, 9, 9, 70, 1, 1, 40, 1, 0}, Conv2dSizes{3, 9, 9, 2, 7, 7, 1, 1, 3},
        Conv2dSizes{3, 14, 14, 32, 4, 4, 32, 4, 1, 32}}) {
    const auto x = convert<float>(random_values(input_count(s), 1)),
               w = convert<float>(random_values(weight_count(s), 2)),
               dy = convert<float>(random_values(output_count(s), 3));
    for (const ConvRung rung : all_rungs) {
      cpu::set_num_threads(1);
      const Passes<float> one(s, x, w, dy, rung);
      cpu::set_num_threads(5);
      const Passes<float> many(s, x, w, dy, rung);
      cpu::set_num_threads(0);
      CHECK(one.y == many.y);
      CHECK(one.dx == many.dx);
      CHECK(one.dw == many.dw);
    }
  }
}

TEST_CASE("a packed weight serves every batch size") {
  for (const Conv2dSizes& s :
       {Conv2dSizes{2, 12, 11, 18, 3, 3, 34, 1, 1}, Conv2dSizes{2, 12, 11, 18, 5, 5, 34, 2, 2},
        Conv2dSizes{2, 12, 11, 18, 1, 1, 34, 1, 0},
        Conv2dSizes{2, 12, 11, 18, 3, 3, 18, 1, 1, 18}}) {
    const auto x = random_values(input_count(s), 1), w = random_values(weight_count(s), 2);
    for (const ConvRung rung : all_rungs) {
      std::vector<double> expected(output_count(s)), y(output_count(s));
      cpu::conv2d_forward(s, x.data(), w.data(), expected.data(), ConvRung::direct);
      const auto packed = cpu::pack_weights(s, w.data(), rung);
      Conv2dSizes one = s;
      one.batch = 1;
      for (Index n = 0; n < s.batch; ++n) {
        cpu::conv2d_forward<double>(one, x.data() + n * input_count(one), nullptr,
                                    y.data() + n * output_count(one), rung, &packed);
      }
      CHECK(relative_error(y, expected) < 1e-13);
    }
  }
}
