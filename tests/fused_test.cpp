// Fused operations against their composed forms.
#include <doctest/doctest.h>

#include "autograd/backend.h"
#include "autograd/fusion.h"
#include "autograd/gradcheck.h"
#include "autograd/node.h"
#include "layers/resnet.h"

using namespace chalk;

namespace {

// Fusion as it was before, whatever a test does.
struct FusionGuard {
  bool before = fusion_enabled();
  ~FusionGuard() { set_fusion(before); }
};

double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const std::vector<double> x = a.to_vector<double>(), y = b.to_vector<double>();
  double size = 1e-30, difference = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    size = std::max(size, std::abs(y[i]));
    difference = std::max(difference, std::abs(x[i] - y[i]));
  }
  return difference / size;
}

struct Outcome {
  Tensor output, grad_input;
  std::vector<Module::Named> parameters, buffers;
};

// A block's output, gradients and buffers, from weights and inputs that depend on nothing else.
Outcome run(bool fused, DType dtype, bool training, Index in, Index out, Index stride, Index side) {
  const FusionGuard guard;
  set_fusion(fused);
  manual_seed(3);
  BasicBlock block(in, out, stride);
  for (Tensor& parameter : block.parameters())
    if (parameter.dim() == 1) parameter.copy_from(Tensor::randn(parameter.shape()));
  block.to(dtype);
  block.train(training);
  Generator generator{5, 0};
  Tensor x = Tensor::randn({3, side, side + 1, in}, generator, DType::float64).to(dtype);
  x.set_requires_grad();
  const Tensor y = block(x);
  const Tensor gradient = Tensor::randn(y.shape(), generator, DType::float64).to(dtype);
  y.backward(gradient);
  return {y.detach(), x.grad(), block.named_parameters(), block.named_buffers()};
}

void compare(const Outcome& fused, const Outcome& composed, double tolerance) {
  CHECK(largest_difference(fused.output, composed.output) < tolerance);
  CHECK(largest_difference(fused.grad_input, composed.grad_input) < tolerance);
  for (std::size_t i = 0; i < fused.parameters.size(); ++i) {
    INFO(fused.parameters[i].name);
    CHECK(largest_difference(fused.parameters[i].tensor.grad(),
                             composed.parameters[i].tensor.grad()) < tolerance);
  }
  for (std::size_t i = 0; i < fused.buffers.size(); ++i)
    CHECK(largest_difference(fused.buffers[i].tensor, composed.buffers[i].tensor) < tolerance);
}

}  // namespace

TEST_CASE("a fused block equals the composed one") {
  for (bool training : {true, false}) {
    CAPTURE(training);
    for (Index side : {1, 5, 9}) {
      CAPTURE(side);
      compare(run(true, DType::float64, training, 16, 16, 1, side),
              run(false, DType::float64, training, 16, 16, 1, side), 1e-11);
      compare(run(true, DType::float64, training, 19, 37, 2, side),
              run(false, DType::float64, training, 19, 37, 2, side), 1e-11);
      compare(run(true, DType::float32, training, 48, 64, 2, side),
              run(false, DType::float32, training, 48, 64, 2, side), 1e-3);
    }
  }
}

TEST_CASE("batch_norm_cbam passes its gradient check") {
  for (bool training : {true, false}) {
    CAPTURE(training);
    const auto random = [](Shape shape) {
      return Tensor::randn(shape, default_generator(), DType::float64).set_requires_grad();
    };
    manual_seed(11);
    const Tensor mean = Tensor::zeros({5}, DType::float64),
                 variance = Tensor::ones({5}, DType::float64);
    const auto function = [&](const std::vector<Tensor>& in) {
      const CbamParameters parameters{in[2], in[3], in[4], in[5], in[6]};
      return batch_norm_cbam(in[0], in[1], parameters, mean.clone(), variance.clone(),
                             {.training = training});
    };
    const GradcheckResult result =
        gradcheck("batch_norm_cbam", function,
                  {random({2, 3, 4, 5}), random({2, 3, 4, 5}), random({5}), random({5}),
                   random({1, 1, 5, 3}), random({1, 1, 3, 5}), random({7, 7, 2, 1})});
    INFO(result.message);
    CHECK(result.passed);
  }
}

TEST_CASE("batch_norm_cbam says which shape is wrong") {
  const Tensor x = Tensor::zeros({1, 2, 2, 4});
  const CbamParameters parameters{Tensor::ones({4}), Tensor::zeros({4}),
                                  Tensor::zeros({1, 1, 3, 1}), Tensor::zeros({1, 1, 1, 4}),
                                  Tensor::zeros({7, 7, 2, 1})};
  CHECK_THROWS_WITH(batch_norm_cbam(x, x, parameters, Tensor::zeros({4}), Tensor::ones({4})),
                    "batch_norm_cbam: input has 4 channels, w1 has the shape [1, 1, 3, 1]");
}
