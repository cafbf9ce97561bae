// The facial-expression network against PyTorch's: names, shapes, one pass, twenty training steps.
#include "examples/fer/fer_net.h"

#include <algorithm>

#include "autograd/node.h"
#include "optim/optimizer.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

const Fixture& fixture() {
  static const Fixture loaded("fer_net");
  return loaded;
}

// 0, 1, ... of the stream `seed`, as fixtures/fixture.py makes them.
Tensor uniform(std::uint64_t seed, const Shape& shape) {
  Generator generator{seed, 0};
  return Tensor::rand(shape, generator, DType::float64);
}

// The weights of make_fer_net.py.
void set_weights(Module& net) {
  StateDict state = net.state_dict();
  std::uint64_t stream = 0;
  for (auto& [name, tensor] : state) {
    const std::uint64_t seed = stream++;
    const bool is_norm = tensor.dim() == 0 || name.find("running") != std::string::npos ||
                         (tensor.dim() == 1 && name.ends_with(".weight"));
    if (is_norm) continue;
    const Index fan_in = tensor.dim() > 1 ? tensor.numel() / tensor.size(0) : 400;
    tensor = (uniform(seed, tensor.shape()) * 2.0 - 1.0) / std::sqrt(static_cast<double>(fan_in));
  }
  net.load_state_dict(state);
}

Tensor images(Index step, const Shape& shape, DType dtype) {
  return uniform(1000 + static_cast<std::uint64_t>(step), shape).to(dtype);
}

Tensor labels(Index step, Index batch) {
  std::vector<std::int64_t> values;
  for (Index i = 0; i < batch; ++i)
    values.push_back((3 * i + step) % 7);
  return Tensor::from(values, {batch});
}

// Of all parameters, from the first weights, for a batch of eight.
std::vector<Tensor> gradients(DType dtype, Index step) {
  FerNet net;
  net.to(DType::float64);
  set_weights(net);
  net.to(dtype);
  cross_entropy(net(images(step, {8, 96, 224, 3}, dtype)), labels(step, 8)).backward();
  std::vector<Tensor> result;
  for (const Tensor& parameter : net.parameters())
    result.push_back(parameter.grad());
  return result;
}

// A network trained for 20 steps, and how far each loss was from PyTorch's in float64, relatively.
struct Training {
  FerNet net;
  std::vector<double> errors;

  Training(DType dtype, double lr, Index batch, const std::string& losses) {
    net.to(DType::float64);
    set_weights(net);
    net.to(dtype);
    AdamW optimizer(net.parameters(), {.lr = lr, .weight_decay = 0.01});
    Index step = 0;
    for (const double expected : fixture().at(losses).to_vector<double>()) {
      optimizer.zero_grad();
      const Tensor x = images(step, {batch, 96, 224, 3}, dtype);
      const Tensor loss = cross_entropy(net(x), labels(step, batch));
      loss.backward();
      optimizer.step();
      errors.push_back(std::abs(loss.item() / expected - 1));
      ++step;
    }
  }
};

double largest(const std::vector<double>& values) {
  return *std::max_element(values.begin(), values.end());
}

double smallest(const std::vector<double>& values) {
  return *std::min_element(values.begin(), values.end());
}

double root_mean_square(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values)
    sum += value * value;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

}  // namespace

TEST_CASE("the network has the published parameters, by PyTorch's names and shapes") {
  const FerNet net;
  CHECK(net.parameter_count() == 3'273'363);
  const std::map<std::string, Tensor> shapes = fixture().under("shape.");
  const StateDict state = net.state_dict();
  CHECK(state.size() == shapes.size());
  for (const auto& entry : shapes) {
    const std::string& name = entry.first;
    REQUIRE_MESSAGE(state.count(name), name);
    CHECK_MESSAGE(state.at(name).shape() == entry.second.to_vector<Index>(), name);
  }
}

TEST_CASE("one pass at 224 x 224: logits and the size of every gradient") {
  FerNet net;
  net.to(DType::float64);
  set_weights(net);
  const Tensor logits = net(images(100, {2, 224, 224, 3}, DType::float64));
  check_close("logits", logits, fixture().at("logits224"), 1e-9);
  cross_entropy(logits, labels(100, 2)).backward();
  for (const Module::Named& parameter : net.named_parameters())
    check_close(parameter.name, sqrt(sum(parameter.tensor.grad() * parameter.tensor.grad())),
                fixture().at("norm." + parameter.name), 1e-7);
}

// Where rounding switches no ReLU and no maximum, the error is a millionth; where it does, as in
// most batches, the gradient changes by a thousandth, chalk's and PyTorch's alike.
TEST_CASE("gradients in float32 stay as near float64's as PyTorch's") {
  std::vector<double> errors;
  for (Index step = 0; step < 6; ++step) {
    const std::vector<Tensor> exact = gradients(DType::float64, step);
    const std::vector<Tensor> rounded = gradients(DType::float32, step);
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      const Tensor d = rounded[i].to(DType::float64) - exact[i];
      difference += sum(d * d).item();
      size += sum(exact[i] * exact[i]).item();
    }
    errors.push_back(std::sqrt(difference / size));
  }
  const std::vector<double> own = fixture().at("gradient_errors").to_vector<double>();
  CAPTURE(errors);
  CAPTURE(own);
  CHECK(root_mean_square(errors) < 2 * root_mean_square(own));
  CHECK(smallest(errors) < 1e-5);
}

TEST_CASE("twenty training steps in float64 are PyTorch's") {
  Training training(DType::float64, 1e-3, 2, "losses");
  CAPTURE(training.errors);
  CHECK(training.errors.size() == 20);
  CHECK(largest(training.errors) < 1e-10);
  training.net.eval();
  const NoGrad no_grad;
  check_close("logits in evaluation", training.net(images(0, {2, 96, 224, 3}, DType::float64)),
              fixture().at("logits"), 1e-8);
}

// AdamW's first steps follow little but the signs of the gradients. A rounding error that switches
// one ReLU of a layer changes its gradient by a thousandth, and the signs of those near 0 turn. So
// float32 runs part, PyTorch's own by up to 4e-3 of its float64's losses, whatever the images, the
// size of the batch or of the weights. chalk's may be no more than twice as far; small steps stay
// together.
TEST_CASE("twenty training steps in float32 stay as near PyTorch's in float64 as PyTorch's own") {
  const Training training(DType::float32, 1e-3, 8, "losses8");
  CAPTURE(training.errors);
  std::vector<double> own =
      (fixture().at("losses8_float32").to(DType::float64) / fixture().at("losses8") - 1.0)
          .to_vector<double>();
  CHECK(training.errors[0] < 1e-6);
  CHECK(root_mean_square(training.errors) < 2 * root_mean_square(own));
  const Training small_steps(DType::float32, 3e-5, 2, "losses_small");
  CAPTURE(small_steps.errors);
  CHECK(largest(small_steps.errors) < 1e-3);
}
