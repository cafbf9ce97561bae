// The facial-expression network on a GPU beside the CPU, from the same weights, without TF32.
#include "cuda/ladders.h"
#include "examples/fer/fer_net.h"
#include "optim/captured_step.h"
#include "optim/optimizer.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

constexpr Index batch = 2, size = 81;  // the least that leaves the attention something to look at

// The losses of some steps, each from weights that the step before changed.
std::vector<double> losses(Device device, int steps, bool recorded) {
  manual_seed(3);
  FerNet net;
  net.to(device);
  AdamW optimizer(net.parameters(), {.lr = 3e-5});
  Tensor x({batch, size, size, 3}, DType::float32, device), y({batch}, DType::int64, device), loss;
  const auto compute = [&] {
    loss = cross_entropy(net(x), y);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
  };
  CapturedStep captured(net.tensors(), compute);
  std::vector<double> result;
  for (int step = 0; step < steps; ++step) {
    Generator generator{static_cast<std::uint64_t>(step), 0};
    x.copy_from(Tensor::rand(x.shape(), generator));
    y.copy_from(Tensor::from(std::vector<std::int64_t>{step % 7, (step + 3) % 7}, {batch}));
    recorded ? captured.run() : compute();
    result.push_back(loss.item());
  }
  return result;
}

// CHALK_NETWORK_STEPS of them: emulated and watched by a sanitizer one takes long enough.
int steps_to_take() {
  const char* chosen = std::getenv("CHALK_NETWORK_STEPS");
  return chosen == nullptr ? 20 : std::atoi(chosen);
}

}  // namespace

TEST_CASE("the network learns as on the CPU, with the same bits when recorded") {
  cuda::set_tf32(false, false);
  const int steps = steps_to_take();
  const std::vector<double> expected = losses(Device::cpu, steps, false);
  const std::vector<double> actual = losses(Device::cuda, steps, true);
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK_MESSAGE(std::abs(actual[i] / expected[i] - 1) < 1e-3, "step ", i, ": ", actual[i],
                  ", on the CPU ", expected[i]);
  if (steps > 3) {
    const std::vector<double> again = losses(Device::cuda, 5, false);
    for (std::size_t i = 0; i < again.size(); ++i)
      CHECK(again[i] == actual[i]);
  }
}
