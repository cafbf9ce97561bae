// Recorded steps: the same bits as without recording, whatever changes from step to step.
#include "optim/captured_step.h"

#include "autograd/operations.h"
#include "layers/attention.h"
#include "layers/conv2d.h"
#include "layers/linear.h"
#include "layers/norm.h"
#include "layers/simple.h"
#include "optim/optimizer.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

// A bit of everything that a recording could get wrong: statistics, dropout, attention.
class SmallNet : public Module {
 public:
  SmallNet() : conv(3, 8, 3, {.padding = 1}), norm(8), attention(8, 2), dropout(0.3), output(8, 4) {
    add_module("conv", conv);
    add_module("norm", norm);
    add_module("attention", attention);
    add_module("dropout", dropout);
    add_module("output", output);
  }

  Tensor forward(const Tensor& x) override {
    const Tensor map = max_pool2d(norm.with_relu(conv(x)), 2, 2);
    const Tensor tokens = reshape(map, {map.size(0), -1, 8});
    return output(dropout(mean(attention(tokens), {1})));
  }

  std::string describe() const override { return "SmallNet"; }

  Conv2d conv;
  BatchNorm2d norm;
  MultiHeadAttention attention;
  Dropout dropout;
  Linear output;
};

constexpr Index batch = 4;

Tensor images(Index step) {
  Generator generator{static_cast<std::uint64_t>(step), 0};
  return Tensor::rand({batch, 8, 6, 3}, generator).to(Device::cuda);
}

Tensor labels(Index step) {
  std::vector<std::int64_t> values;
  for (Index i = 0; i < batch; ++i)
    values.push_back((i + step) % 4);
  return Tensor::from(values, {batch}).to(Device::cuda);
}

// Trains for eight steps, with another learning rate in each; returns the losses and the state
// in the end.
std::pair<std::vector<double>, StateDict> train(bool recorded, bool evaluate_between) {
  manual_seed(5);
  SmallNet net;
  net.to(Device::cuda);
  AdamW optimizer(net.parameters());
  Tensor x = images(0), y = labels(0), loss;
  const auto compute = [&] {
    loss = cross_entropy(net(x), y);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
  };
  CapturedStep captured(net.tensors(), compute);
  std::vector<double> losses;
  for (Index step = 0; step < 8; ++step) {
    x.copy_from(images(step));
    y.copy_from(labels(step));
    optimizer.set_lr(0.01 / static_cast<double>(step + 1));
    recorded ? captured.run() : compute();
    losses.push_back(loss.item());
    if (!evaluate_between) continue;
    net.eval();
    net(images(100));
    net.train();
  }
  StateDict result;
  for (const auto& [name, tensor] : net.state_dict())
    result[name] = tensor.to(Device::cpu).clone();
  return {losses, result};
}

}  // namespace

TEST_CASE("a recorded step gives the same bits as one that is not") {
  const auto [expected_losses, expected] = train(false, false);
  for (const bool evaluate_between : {false, true}) {
    const auto [losses, state] = train(true, evaluate_between);
    CHECK(losses == expected_losses);
    for (const auto& entry : state)
      CHECK_MESSAGE(difference(entry.second, expected.at(entry.first), 0).empty(), entry.first);
  }
}

TEST_CASE("random numbers outside of a recorded step go on behind those inside") {
  std::vector<float> drawn[2];
  for (const bool recorded : {false, true}) {
    manual_seed(1);
    Tensor x = Tensor::ones({5}, DType::float32, Device::cuda), y;
    const auto compute = [&] {
      y = dropout(x, 0.5) * Tensor::rand({5}, default_generator(), DType::float32, Device::cuda);
    };
    CapturedStep captured({x}, compute);
    for (int step = 0; step < 5; ++step) {
      recorded ? captured.run() : compute();
      const Tensor beside = Tensor::randn({3}, default_generator(), DType::float32, Device::cuda);
      for (const Tensor& numbers : {y, beside})
        for (const float number : numbers.to_vector<float>())
          drawn[recorded].push_back(number);
    }
  }
  CHECK(drawn[0] == drawn[1]);
}

TEST_CASE("a replay counts as a change of what the step changes") {
  Tensor w = Tensor::ones({2}, DType::float32, Device::cuda).set_requires_grad();
  Sgd optimizer({w}, {.lr = 0.5});
  CapturedStep captured({w}, [&] {
    const Tensor loss = sum(w * w);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
  });
  for (int i = 0; i < 4; ++i)
    captured.run();
  const Tensor saved = sum(w * w);
  captured.run();
  check_error([&] { saved.backward(); }, {"overwritten"});
}

TEST_CASE("a replay counts as a change of all that a network has, whatever its layout in files") {
  SmallNet net;
  net.to(Device::cuda);
  const Tensor x = images(0), y = labels(0);
  Sgd optimizer(net.parameters(), {.lr = 0.5});
  CapturedStep captured(net.tensors(), [&] {
    const Tensor loss = cross_entropy(net(x), y);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
  });
  for (int i = 0; i < 4; ++i)
    captured.run();
  for (const Tensor& tensor : net.tensors()) {
    const std::uint64_t before = tensor.storage()->version;
    captured.run();
    CHECK(tensor.storage()->version > before);
  }
  const Tensor saved = sum(net.conv(x));
  captured.run();
  check_error([&] { saved.backward(); }, {"conv2d", "overwritten"});
}

TEST_CASE("what can't be recorded is an error, and the device goes on") {
  Tensor x = Tensor::ones({2}, DType::float32, Device::cuda);
  double seen = 0;
  CapturedStep captured({x}, [&] { seen = sum(x).item(); });
  captured.run();
  captured.run();
  CHECK(seen == 2);
  check_error([&] { captured.run(); }, {"recorded", "outside of it", "CHALK_GRAPH=0"});
  CHECK(sum(x).item() == 2);
}

TEST_CASE("the CPU runs a step as it is") {
  Tensor x = Tensor::zeros({1});
  int runs = 0;
  CapturedStep step({x}, [&] { ++runs; });
  for (int i = 0; i < 5; ++i)
    step.run();
  CHECK(runs == 5);
}
