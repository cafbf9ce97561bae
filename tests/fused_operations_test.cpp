// Fused operations against the same computation composed of single operations: results, running
// statistics and every gradient, for odd sizes, in training and in evaluation.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "autograd/backend.h"
#include "autograd/check.h"
#include "autograd/cpu/parallel.h"
#include "autograd/fusion.h"
#include "autograd/node.h"
#include "autograd/operations.h"
#include "layers/resnet.h"

using namespace chalk;

namespace {

using Tensors = std::vector<Tensor>;
using Function = std::function<Tensor(Tensors&, const BatchNormOptions&)>;

// Switches fusion for one scope.
struct Fusion {
  explicit Fusion(bool enabled) { set_fusion(enabled); }
  ~Fusion() { set_fusion(before); }
  const bool before = fusion_enabled();
};

struct Threads {
  explicit Threads(int count) { cpu::set_num_threads(count); }
  ~Threads() { cpu::set_num_threads(0); }
};

// Normal numbers, for the first tensors leaves; the last two are a running mean and variance.
Tensors inputs_of(const std::vector<Shape>& shapes, DType dtype) {
  Generator generator{5, 0};
  Tensors inputs;
  for (const Shape& shape : shapes)
    inputs.push_back(Tensor::randn(shape, generator, dtype).set_requires_grad());
  const Shape channels = {shapes[0].back()};
  inputs.push_back(Tensor::randn(channels, generator, dtype));
  inputs.push_back(Tensor::rand(channels, generator, dtype));
  return inputs;
}

// The result, the gradients of all leaves for a random gradient of the result, and the running
// statistics after the call.
Tensors everything(const Function& function, const std::vector<Shape>& shapes, DType dtype,
                   bool training) {
  Tensors inputs = inputs_of(shapes, dtype);
  const Tensor y = function(inputs, {.training = training});
  Generator generator{6, 0};
  y.backward(Tensor::randn(y.shape(), generator, dtype));
  Tensors results = {y};
  for (const Tensor& input : inputs)
    results.push_back(input.requires_grad() ? input.grad() : input);
  return results;
}

void check_close(const Tensors& actual, const Tensors& expected, double tolerance) {
  REQUIRE(actual.size() == expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    REQUIRE(actual[i].shape() == expected[i].shape());
    const auto a = actual[i].to_vector<double>(), b = expected[i].to_vector<double>();
    double largest = 1, difference = 0;
    for (std::size_t j = 0; j < a.size(); ++j) {
      largest = std::max(largest, std::abs(b[j]));
      difference = std::max(difference, std::abs(a[j] - b[j]));
    }
    CHECK_MESSAGE(difference <= tolerance * largest, "tensor ", i, " differs by ", difference);
  }
}

// Fused and composed, `function` gives the same; composed, its last operation is `last`.
void check_fusion(const Function& function, const std::vector<Shape>& shapes, bool training,
                  const std::string& last, double tolerance64, double tolerance32) {
  CAPTURE(shapes[0]);
  for (const DType dtype : {DType::float64, DType::float32}) {
    Tensors composed, fused;
    {
      const Fusion off(false);
      composed = everything(function, shapes, dtype, training);
    }
    {
      const Fusion on(true);
      fused = everything(function, shapes, dtype, training);
    }
    CHECK(composed[0].node()->operation == last);
    CHECK(fused[0].node()->operation != last);
    check_close(fused, composed, dtype == DType::float64 ? tolerance64 : tolerance32);
  }
}

bool same_bits(const Tensors& a, const Tensors& b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(a[i].storage()->data(), b[i].storage()->data(),
                    static_cast<std::size_t>(a[i].numel() * size_of(a[i].dtype()))) != 0)
      return false;
  return true;
}

// ---- batch norm, ReLU, max pool ----

Function max_pool_function(Index kernel, Index stride, Index padding) {
  return [=](Tensors& t, const BatchNormOptions& options) {
    return batch_norm_max_pool2d(t[0], t[1], t[2], {t[3], t[4]}, kernel, stride, padding, options);
  };
}

struct PoolCase {
  Shape shape;
  Index kernel, stride, padding;
};
const PoolCase pool_cases[] = {{{2, 9, 7, 5}, 3, 2, 1},  {{3, 8, 8, 67}, 3, 2, 1},
                               {{2, 6, 6, 64}, 2, 2, 0}, {{1, 5, 5, 3}, 4, 3, 2},
                               {{2, 7, 5, 33}, 3, 1, 1}, {{2, 1, 1, 1}, 1, 1, 0}};

// ---- batch norm, CBAM, residual, ReLU ----

Tensor cbam_function(Tensors& t, const BatchNormOptions& options) {
  return batch_norm_cbam(t[0], t[1], {t[2], t[3], t[4], t[5], t[6]}, {t[7], t[8]}, options);
}

std::vector<Shape> cbam_shapes(const Shape& x, Index hidden) {
  const Index channels = x.back();
  return {
      x,           x, {channels}, {channels}, {1, 1, channels, hidden}, {1, 1, hidden, channels},
      {7, 7, 2, 1}};
}

const std::vector<Shape> cbam_cases[] = {
    cbam_shapes({2, 5, 7, 32}, 2), cbam_shapes({3, 4, 4, 67}, 4), cbam_shapes({2, 1, 1, 16}, 1),
    cbam_shapes({2, 9, 3, 1}, 1), cbam_shapes({1, 8, 8, 130}, 8)};

// ---- a residual block ----

// Its parameters and buffers, which depend on nothing else, join the tensors that are compared.
Function block_function(Index in, Index out, Index stride) {
  return [=](Tensors& t, const BatchNormOptions& options) {
    manual_seed(3);
    BasicBlock block(in, out, stride);
    for (Tensor& parameter : block.parameters())
      if (parameter.dim() == 1) parameter.copy_from(Tensor::randn(parameter.shape()));
    block.to(t[0].dtype());
    block.train(options.training);
    for (const auto& list : {block.named_parameters(), block.named_buffers()})
      for (const Module::Named& entry : list)
        t.push_back(entry.tensor);
    return block(t[0]);
  };
}

}  // namespace

TEST_CASE("batch_norm_max_pool2d equals its parts") {
  for (const bool training : {true, false}) {
    for (const PoolCase& test : pool_cases) {
      const Shape channels = {test.shape.back()};
      const std::vector<Shape> shapes = {test.shape, channels, channels};
      const Function function = max_pool_function(test.kernel, test.stride, test.padding);
      check_fusion(function, shapes, training, "max_pool2d", 1e-12, 1e-5);
    }
  }
}

TEST_CASE("batch_norm_max_pool2d keeps NaN, works without gradients and on an empty batch") {
  const Fusion on(true);
  const Tensor one = Tensor::ones({1}), zero = Tensor::zeros({1});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = Tensor::from<float>({1, 2, nan, -4, -5, -6, -7, -8}, {1, 2, 4, 1});
  const auto y =
      batch_norm_max_pool2d(x, one, zero, {zero, one}, 2, 2, 0, {.training = false, .eps = 0})
          .to_vector<double>();
  CHECK(y[0] == 2);
  CHECK(std::isnan(y[1]));
  const Tensor empty = batch_norm_max_pool2d(Tensor({0, 4, 4, 1}), one, zero, {zero, one}, 2, 2, 0,
                                             {.training = false});
  CHECK(empty.shape() == Shape{0, 2, 2, 1});
}

TEST_CASE("batch_norm_max_pool2d names what is wrong") {
  const Tensor x = Tensor::zeros({1, 4, 4, 3}), c = Tensor::zeros({3}), d = Tensor::zeros({2});
  CHECK_THROWS_WITH_AS(batch_norm_max_pool2d(x, c, d, {c, c}, 2, 2, 0),
                       doctest::Contains("3 channels"), Error);
  CHECK_THROWS_WITH_AS(batch_norm_max_pool2d(x, c, c, {c, c}, 5, 2, 0),
                       doctest::Contains("does not fit"), Error);
}

TEST_CASE("batch_norm_cbam equals its parts") {
  for (const bool training : {true, false}) {
    for (const std::vector<Shape>& shapes : cbam_cases)
      check_fusion(cbam_function, shapes, training, "relu", 1e-11, 3e-5);
  }
}

TEST_CASE("a block equals its parts") {
  for (const bool training : {true, false}) {
    for (const Index side : {1, 5, 9}) {
      const auto check_block = [&](Index in, Index out, Index stride) {
        check_fusion(block_function(in, out, stride), {{3, side, side + 1, in}}, training, "relu",
                     1e-11, 1e-3);
      };
      check_block(16, 16, 1);
      check_block(19, 37, 2);
      check_block(48, 64, 2);
    }
  }
}

TEST_CASE("batch_norm_cbam keeps NaN") {
  Tensors inputs = inputs_of(cbam_shapes({1, 3, 3, 4}, 2), DType::float32);
  inputs[0].mutable_data<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  for (const double value : cbam_function(inputs, {.training = false}).to_vector<double>())
    CHECK(std::isnan(value));  // the spatial attention sees all of the image
}

TEST_CASE("the number of threads changes no bit of a fused operation") {
  const Fusion on(true);
  const std::vector<Shape> shapes = {{3, 8, 8, 67}, {67}, {67}};
  const auto run = [&](int threads) {
    const Threads scope(threads);
    Tensors results =
        everything(cbam_function, cbam_shapes({5, 9, 7, 67}, 4), DType::float32, true);
    for (const Tensor& result :
         everything(max_pool_function(3, 2, 1), shapes, DType::float32, true))
      results.push_back(result);
    return results;
  };
  const Tensors one = run(1);
  CHECK(same_bits(one, run(2)));
  CHECK(same_bits(one, run(3)));
}
