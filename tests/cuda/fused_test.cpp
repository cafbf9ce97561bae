// Fused operations on a GPU against the same composed of single operations there, for drawn shapes:
// the result, the running statistics and every gradient.
#include "autograd/backend.h"
#include "autograd/fusion.h"
#include "autograd/operations.h"
#include "autograd/random.h"
#include "cuda/ladders.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

using Tensors = std::vector<Tensor>;
using Function = std::function<Tensor(const Tensors&, const BatchNormOptions&)>;

Index drawn(Generator& generator, Index least, Index most) {
  return least + static_cast<Index>(generator.uniform() * static_cast<double>(most - least + 1));
}

Shape drawn_map(Generator& generator) {
  return {drawn(generator, 1, 3), drawn(generator, 1, 17), drawn(generator, 3, 19),
          drawn(generator, 1, 70)};
}

// The function of normal numbers on the GPU and, the last two, a running mean and variance, which
// it moves; then all gradients. Everything comes back to the CPU. The numbers are small: a sigmoid
// near 1 would have no digits of its distance from 1 in float32, nor would its gradient.
Tensors everything(const Function& function, const std::vector<Shape>& shapes, DType dtype,
                   bool training) {
  Generator generator{5, 0};
  const Shape channels = {shapes[0].back()};
  Tensors inputs, results;
  for (const Shape& shape : shapes) {
    const Tensor small = Tensor::randn(shape, generator, dtype) * 0.3;
    inputs.push_back(small.to(Device::cuda).set_requires_grad());
  }
  inputs.push_back(Tensor::randn(channels, generator, dtype).to(Device::cuda));
  inputs.push_back(Tensor::rand(channels, generator, dtype).to(Device::cuda));
  const Tensor y = function(inputs, {.training = training});
  y.backward(Tensor::randn(y.shape(), generator, dtype).to(Device::cuda));
  results.push_back(y.to(Device::cpu));
  for (const Tensor& input : inputs)
    results.push_back((input.requires_grad() ? input.grad() : input).to(Device::cpu));
  return results;
}

void check_fusion(const Function& function, const std::vector<Shape>& shapes) {
  if (!cuda_available()) return;
  const Choices before;
  cuda::set_tf32(false, false);
  CAPTURE(shapes[0]);
  for (const DType dtype : {DType::float64, DType::float32}) {
    for (const bool training : {true, false}) {
      set_fusion(false);
      const Tensors composed = everything(function, shapes, dtype, training);
      set_fusion(true);
      const Tensors fused = everything(function, shapes, dtype, training);
      const Tensors again = everything(function, shapes, dtype, training);
      for (std::size_t i = 0; i < fused.size(); ++i) {
        check_close("tensor " + std::to_string(i), fused[i], composed[i],
                    dtype == DType::float64 ? 1e-11 : 1e-4);
        CHECK(fused[i].to_vector<double>() == again[i].to_vector<double>());
      }
    }
  }
}

Tensor cbam(const Tensors& t, const BatchNormOptions& options) {
  return batch_norm_cbam(t[0], t[1], {t[2], t[3], t[4], t[5], t[6]}, {t[7], t[8]}, options);
}

std::vector<Shape> cbam_shapes(const Shape& map, Index hidden) {
  const Index c = map.back();
  return {map, map, {c}, {c}, {1, 1, c, hidden}, {1, 1, hidden, c}, {7, 7, 2, 1}};
}

constexpr int draws = 5;

}  // namespace

TEST_CASE("on a GPU batch_norm with ReLU equals its parts") {
  const Function function = [](const Tensors& t, BatchNormOptions options) {
    options.relu = true;
    return batch_norm(t[0], t[1], t[2], {t[3], t[4]}, options);
  };
  Generator generator{11, 0};
  for (int i = 0; i < draws; ++i) {
    const Shape map = drawn_map(generator);
    check_fusion(function, {map, {map[3]}, {map[3]}});
  }
}

TEST_CASE("on a GPU batch_norm_max_pool2d equals its parts") {
  Generator generator{12, 0};
  for (int i = 0; i < draws; ++i) {
    Shape map = drawn_map(generator);
    const Index kernel = drawn(generator, 1, 4), stride = drawn(generator, 1, 3);
    const Index padding = drawn(generator, 0, kernel / 2);
    map[1] += kernel, map[2] += kernel;
    const Function function = [=](const Tensors& t, const BatchNormOptions& options) {
      return batch_norm_max_pool2d(t[0], t[1], t[2], {t[3], t[4]}, kernel, stride, padding,
                                   options);
    };
    check_fusion(function, {map, {map[3]}, {map[3]}});
  }
}

TEST_CASE("on a GPU batch_norm_cbam equals its parts") {
  Generator generator{13, 0};
  for (int i = 0; i < draws; ++i)
    check_fusion(cbam, cbam_shapes(drawn_map(generator), drawn(generator, 1, 5)));
  check_fusion(cbam, cbam_shapes({2, 7, 7, 100}, 16));  // several tiles, strips or channels of a
  check_fusion(cbam, cbam_shapes({1, 33, 31, 2}, 1));   // lane, and the last one not full
}

TEST_CASE("on a GPU batch_norm_cbam keeps NaN where it is") {
  if (!cuda_available()) return;
  Generator generator{14, 0};
  Tensors inputs;
  for (const Shape& shape : cbam_shapes({2, 9, 10, 5}, 2))
    inputs.push_back(Tensor::randn(shape, generator));
  inputs.push_back(Tensor::zeros({5}));
  inputs.push_back(Tensor::ones({5}));
  inputs[0].mutable_data<float>()[7] = std::numeric_limits<float>::quiet_NaN();
  for (Tensor& input : inputs)
    input = input.to(Device::cuda);
  const std::vector<double> y = cbam(inputs, {.training = false}).to_vector<double>();
  for (std::size_t i = 0; i < y.size(); ++i)
    CHECK(std::isnan(y[i]) == (i < y.size() / 2));  // the attention sees all of its image, no more
}
