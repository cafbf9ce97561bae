// The convolution's rungs on CUDA devices: each pass of each against the definition on the CPU.
#include <random>

#include "autograd/operations.h"
#include "cuda/ladders.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;
using cuda::ConvRung;

namespace {

// Restores what the tests change.
struct CudaChoices {
  Choices cpu;
  ConvRung rung = cuda::conv_rung();
  bool convolutions = cuda::tf32_in_convolutions(), products = cuda::tf32_in_products();
  ~CudaChoices() {
    cuda::set_conv_rung(rung);
    cuda::set_tf32(convolutions, products);
  }
};

std::string describe(const Conv2dSizes& s) {
  std::ostringstream text;
  text << s.batch << " x " << s.height << " x " << s.width << " x " << s.in_channels << ", kernel "
       << s.kernel_height << " x " << s.kernel_width << " to " << s.out_channels << ", stride "
       << s.stride << ", padding " << s.padding << ", groups " << s.groups;
  return text.str();
}

// Of one convolution: what goes in, as float64 on the CPU but with no more bits than float32 has.
struct Operands {
  Tensor x, weight, dy;
  Conv2dOptions options;

  explicit Operands(const Conv2dSizes& s)
      : x(random({s.batch, s.height, s.width, s.in_channels}, 1)),
        weight(
            random({s.kernel_height, s.kernel_width, s.in_channels / s.groups, s.out_channels}, 2)),
        dy(random({s.batch, s.out_height(), s.out_width(), s.out_channels}, 3)),
        options{s.stride, s.padding, s.groups} {}

  static Tensor random(const Shape& shape, std::uint64_t seed) {
    Generator generator{seed, 0};
    return Tensor::randn(shape, generator).to(DType::float64);
  }
};

// What comes out of the three passes.
struct Results {
  Tensor y, dx, dweight;

  Results(const Operands& operands, DType dtype, Device device) {
    Tensor x = operands.x.to(dtype).to(device).detach();
    Tensor weight = operands.weight.to(dtype).to(device).detach();
    x.set_requires_grad();
    weight.set_requires_grad();
    y = conv2d(x, weight, {}, operands.options);
    y.backward(operands.dy.to(dtype).to(device));
    dx = x.grad();
    dweight = weight.grad();
  }
};

// |actual - expected| / |expected| in the Euclidean norm; NaN anywhere gives NaN.
double relative_error(const Tensor& actual, const Tensor& expected) {
  const std::vector<double> a = actual.to_vector<double>(), e = expected.to_vector<double>();
  REQUIRE(a.size() == e.size());
  double difference = 0, norm = 1e-300;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - e[i]) * (a[i] - e[i]);
    norm += e[i] * e[i];
  }
  return std::sqrt(difference / norm);
}

// The rounding errors of few elements may happen to be all large.
void check_error_of(const char* what, const Tensor& actual, const Tensor& expected,
                    double tolerance) {
  const double error = relative_error(actual, expected);
  const double allowed = actual.numel() < 100 ? 4 * tolerance : tolerance;
  CHECK_MESSAGE(error <= allowed, what, " is wrong by ", error);
}

void check_passes(const Operands& operands, const Results& expected, ConvRung rung, DType dtype,
                  bool tf32) {
  cuda::set_conv_rung(rung);
  cuda::set_tf32(tf32, false);
  INFO(cuda::conv_rung_names()[static_cast<std::size_t>(rung)], ", ", std::string(to_string(dtype)),
       std::string(tf32 ? ", TF32" : ""));
  const double tolerance = dtype == DType::float64 ? 1e-12 : tf32 ? 5e-4 : 1e-5;
  const Results results(operands, dtype, Device::cuda);
  check_error_of("y", results.y, expected.y, tolerance);
  check_error_of("dx", results.dx, expected.dx, tolerance);
  check_error_of("dweight", results.dweight, expected.dweight, tolerance);
}

// Without TF32, tensor and patch leave all but depthwise convolutions to tiled, as automatic does.
void check_all_rungs(const Conv2dSizes& s) {
  const CudaChoices choices;
  cpu::set_conv_rung(cpu::ConvRung::direct);
  CAPTURE(describe(s));
  const Operands operands(s);
  const Results expected(operands, DType::float64, Device::cpu);
  for (const ConvRung rung :
       {ConvRung::automatic, ConvRung::direct, ConvRung::im2col, ConvRung::tiled}) {
    check_passes(operands, expected, rung, DType::float32, false);
    check_passes(operands, expected, rung, DType::float64, false);
  }
  for (const ConvRung rung : {ConvRung::tensor, ConvRung::patch})
    check_passes(operands, expected, rung, DType::float32, true);
}

}  // namespace

TEST_CASE("every rung at the sizes where its tiles end") {
  for (const Conv2dSizes& s : std::initializer_list<Conv2dSizes>{
           {1, 3, 43, 64, 1, 1, 64, 1, 0},   // a tile of 128 pixels, and one more; 4 steps
           {1, 5, 13, 4, 5, 5, 68, 1, 2},    // a tile of 64 and one more; columns too
           {1, 6, 6, 16, 1, 1, 8, 1, 0},     // one step
           {1, 6, 6, 36, 1, 1, 132, 1, 0},   // three, and two tiles of columns
           {2, 7, 9, 3, 3, 3, 12, 1, 1},     // copies of 4 bytes
           {1, 9, 10, 68, 3, 3, 70, 1, 1},   // of y only
           {1, 12, 11, 64, 3, 3, 64, 2, 1},  // stride 2: phases with 1, 2, 2, 4 taps
           {2, 9, 9, 64, 1, 1, 20, 2, 0},    // phases without taps
           {3, 8, 8, 12, 3, 3, 20, 3, 1},    // stride 3
           {1, 11, 13, 20, 7, 7, 12, 3, 3},  //
           {1, 1, 2, 20, 3, 3, 20, 3, 1},    // fewer pixels than phases
           {2, 1, 9, 20, 3, 3, 20, 1, 1},    // one row
           {1, 7, 9, 20, 3, 3, 12, 1, 0},    // smaller than x
           {1, 7, 9, 20, 3, 3, 12, 1, 2},    // and larger
           {3, 5, 6, 64, 3, 3, 36, 1, 1},    // the neighbours in memory are other images
           {1, 16, 17, 3, 7, 7, 64, 2, 3},   // a first layer
           {1, 11, 140, 3, 7, 7, 20, 2, 3},  // rows of more than 64 pixels
           {1, 3, 270, 1, 3, 3, 8, 2, 1},    // and of more than 128
           {133, 18, 3, 3, 3, 3, 4, 2, 1},   // three tiles of a block, one after the other
           {2, 9, 8, 2, 4, 5, 68, 1, 2}})    //
    check_all_rungs(s);
}

TEST_CASE("groups and depthwise convolutions") {
  for (const Conv2dSizes& s : std::initializer_list<Conv2dSizes>{{2, 9, 10, 64, 4, 4, 64, 4, 0, 64},
                                                                 {2, 8, 9, 20, 2, 2, 20, 2, 0, 20},
                                                                 {1, 9, 9, 5, 3, 3, 5, 1, 1, 5},
                                                                 {1, 5, 3, 8, 3, 3, 8, 3, 2, 8},
                                                                 {1, 6, 7, 12, 3, 3, 8, 1, 1, 4},
                                                                 {1, 6, 7, 4, 3, 3, 8, 2, 1, 4}})
    check_all_rungs(s);
}

TEST_CASE("every rung on drawn shapes") {
  std::mt19937 engine(7);
  const auto one_of = [&](std::vector<Index> choices) {
    return choices[engine() % choices.size()];
  };
  for (int trial = 0; trial < 60; ++trial) {
    Conv2dSizes s{};
    s.groups = one_of({1, 1, 1, 1, 2, 4});
    s.batch = one_of({0, 1, 2, 3});
    s.height = one_of({1, 2, 3, 7, 12, 17});
    s.width = one_of({1, 2, 3, 8, 13, 40});
    s.in_channels = s.groups * one_of({1, 2, 3, 4, 12, 17, 20});
    s.out_channels = s.groups * one_of({1, 3, 4, 12, 17, 68});
    s.kernel_height = one_of({1, 2, 3, 3, 3, 4, 5, 7});
    s.kernel_width = one_of({1, 2, 3, s.kernel_height, s.kernel_height, s.kernel_height});
    s.stride = one_of({1, 1, 1, 2, 3, 4});
    s.padding = one_of({0, 1, 1, 2, 3});
    if (s.height + 2 * s.padding < s.kernel_height) continue;
    if (s.width + 2 * s.padding < s.kernel_width) continue;
    constexpr Index most_products = 500'000;
    const Index outputs = s.batch * s.out_height() * s.out_width() * s.out_channels;
    if (outputs * s.kernel_height * s.kernel_width * s.in_channels / s.groups > most_products)
      continue;
    check_all_rungs(s);
  }
}

// A weight of zero that fills a slice up must not meet what is not a number: that stays none. Not
// at the edges, where zeros around the image meet it in all rungs but direct.
TEST_CASE("what is not a number reaches the same results by every rung") {
  const CudaChoices choices;
  const auto same = [](const Tensor& a, const Tensor& b) {
    const std::vector<double> as = a.to_vector<double>(), bs = b.to_vector<double>();
    return std::equal(as.begin(), as.end(), bs.begin(), bs.end(),
                      [](double x, double y) { return std::isnan(x) == std::isnan(y); });
  };
  // The first channel of the pixel in the middle of the first image.
  const auto spoil = [](Tensor& images) {
    const Index pixel = images.size(1) / 2 * images.size(2) + images.size(2) / 2;
    images.mutable_data<double>()[pixel * images.size(3)] = std::nan("");
  };
  for (const Conv2dSizes& s : std::initializer_list<Conv2dSizes>{{2, 6, 7, 20, 3, 3, 12, 1, 1},
                                                                 {2, 6, 7, 20, 3, 3, 12, 2, 1},
                                                                 {2, 9, 20, 3, 7, 7, 12, 2, 3},
                                                                 {2, 6, 7, 3, 3, 3, 5, 1, 1}}) {
    CAPTURE(describe(s));
    Operands operands(s);
    spoil(operands.x);
    spoil(operands.dy);
    cpu::set_conv_rung(cpu::ConvRung::direct);
    const Results expected(operands, DType::float64, Device::cpu);
    for (const ConvRung rung :
         {ConvRung::direct, ConvRung::im2col, ConvRung::tiled, ConvRung::tensor, ConvRung::patch}) {
      cuda::set_conv_rung(rung);
      cuda::set_tf32(true, false);
      INFO(cuda::conv_rung_names()[static_cast<std::size_t>(rung)]);
      const Results results(operands, DType::float32, Device::cuda);
      CHECK(same(results.y, expected.y));
      CHECK(same(results.dx, expected.dx));
      CHECK(same(results.dweight, expected.dweight));
    }
  }
}
