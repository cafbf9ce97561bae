// Optimisers step as PyTorch's do, over 20 steps; their state; schedules.
#include "autograd/operations.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

const Fixture& fixture() {
  static const Fixture loaded("optim");
  return loaded;
}

// The two parameters of make_optim.py.
std::vector<Tensor> parameters(DType dtype, Device device = Device::cpu) {
  std::vector<double> sines, cosines;
  for (int i = 0; i < 5; ++i)
    sines.push_back(std::sin(i));
  for (int i = 0; i < 3; ++i)
    cosines.push_back(std::cos(i));
  std::vector<Tensor> both = {Tensor::from(sines, {5}).to(dtype).to(device),
                              Tensor::from(cosines, {3}).to(dtype).to(device)};
  for (Tensor& parameter : both)
    parameter.set_requires_grad();
  return both;
}

// Step `step` of make_optim.py.
void take_step(Optimizer& optimizer, std::vector<Tensor>& parameters, int step,
               int frozen_steps = 0) {
  optimizer.set_lr(0.02 / (1 + step));
  for (Tensor& parameter : parameters) {
    if (step < frozen_steps && &parameter == &parameters[1]) continue;
    std::vector<double> gradient = parameter.to_vector<double>();
    for (std::size_t i = 0; i < gradient.size(); ++i)
      gradient[i] += std::cos(static_cast<double>(i) + step) / 10;
    const Tensor here = Tensor::from(gradient, parameter.shape()).to(parameter.dtype());
    parameter.set_grad(here.to(parameter.device()));
  }
  optimizer.step();
}

using MakeOptimizer =
    std::function<std::unique_ptr<Optimizer>(const std::vector<Tensor>& parameters)>;

MakeOptimizer sgd(const SgdOptions& options) {
  return [=](const std::vector<Tensor>& p) { return std::make_unique<Sgd>(p, options); };
}

MakeOptimizer adamw(const AdamWOptions& options) {
  return [=](const std::vector<Tensor>& p) { return std::make_unique<AdamW>(p, options); };
}

struct Run {
  std::string name;
  MakeOptimizer make;
  int frozen_steps = 0;  // of the second parameter
};

const Run runs[] = {
    {"sgd", sgd({.lr = 0.02})},
    {"sgd_decay", sgd({.lr = 0.02, .weight_decay = 0.1})},
    {"sgd_momentum", sgd({.lr = 0.02, .momentum = 0.9})},
    {"sgd_both", sgd({.lr = 0.02, .momentum = 0.5, .weight_decay = 0.1})},
    {"adamw", adamw({.lr = 0.02, .weight_decay = 0.01})},
    {"adamw_options",
     adamw({.lr = 0.02, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-3, .weight_decay = 0.3})},
    {"adamw_frozen", adamw({.lr = 0.02, .weight_decay = 0.01}), 5},
};

}  // namespace

TEST_CASE("twenty steps are PyTorch's") {
  for (const Run& run : runs)
    for (const Device device : devices())
      for (const DType dtype : {DType::float64, DType::float32}) {
        std::vector<Tensor> w = parameters(dtype, device);
        const std::unique_ptr<Optimizer> optimizer = run.make(w);
        for (int step = 0; step < 20; ++step) {
          INFO(run.name, " ", std::string(to_string(dtype)), " ", to_string(device), " ", step);
          take_step(*optimizer, w, step, run.frozen_steps);
          for (std::size_t i = 0; i < w.size(); ++i) {
            const Tensor rows = fixture().at(run.name + "." + std::to_string(i));
            const Tensor expected = reshape(slice(rows, 0, step, step + 1), w[i].shape());
            check_close("parameter " + std::to_string(i), w[i], expected,
                        dtype == DType::float64 ? 1e-13 : 2e-6);
          }
        }
      }
}

TEST_CASE("parameters are of one type on one device, and stay as they were") {
  for (const Run& run : runs) {
    INFO(run.name);
    std::vector<Tensor> w = parameters(DType::float32);
    const Tensor converted = w[1].detach().to(DType::float64);
    const Tensor moved = w[1].detach().to(Device::cuda);
    check_error([&] { run.make({w[0], converted}); }, {"optimizer", "float32", "float64"});
    check_error(
        [&] {
          run.make({w[0], moved});
        },
        {"optimizer", "on cpu", "on " + to_string(Device::cuda)});
    for (const Tensor& other : {converted, moved}) {
      const std::unique_ptr<Optimizer> optimizer = run.make(w);
      const Tensor before = w[1].detach();
      w[1].set_data(other);
      check_error([&] { optimizer->step(); },
                  {"parameter 1 is " + std::string(to_string(other.dtype())) + " on " +
                       to_string(other.device()),
                   "it was float32 on cpu", "before making its optimizer"});
      w[1].set_data(before);
    }
    run.make({})->step();
  }
}

TEST_CASE("a resumed run equals an unbroken one, bit for bit") {
  for (const Run& run : runs) {
    INFO(run.name);
    std::vector<Tensor> unbroken = parameters(DType::float32), first = parameters(DType::float32);
    const std::unique_ptr<Optimizer> whole = run.make(unbroken), before = run.make(first);
    for (int step = 0; step < 10; ++step)
      take_step(*whole, unbroken, step, run.frozen_steps);
    for (int step = 0; step < 4; ++step)
      take_step(*before, first, step, run.frozen_steps);
    std::vector<Tensor> second;
    for (const Tensor& parameter : first)
      second.push_back(parameter.clone().set_requires_grad());
    const std::unique_ptr<Optimizer> after = run.make(second);
    after->load_state(before->state());
    for (int step = 4; step < 10; ++step)
      take_step(*after, second, step, run.frozen_steps);
    for (std::size_t i = 0; i < second.size(); ++i)
      CHECK(second[i].to_vector<float>() == unbroken[i].to_vector<float>());
  }
}

TEST_CASE("the state of another optimiser is refused") {
  const std::vector<Tensor> w = parameters(DType::float32);
  Sgd plain(w), moving(w, {.momentum = 0.9});
  AdamW adam(w);
  CHECK(plain.state().empty());
  CHECK(moving.state().size() == 2);
  CHECK(adam.state().size() == 5);
  check_error([&] { adam.load_state(moving.state()); }, {"2 tensors", "has 5"});
  std::map<std::string, Tensor> renamed = moving.state();
  renamed["2.velocity"] = renamed.at("1.velocity");
  renamed.erase("1.velocity");
  check_error([&] { moving.load_state(renamed); }, {"lacks 1.velocity"});
  std::map<std::string, Tensor> reshaped = moving.state();
  reshaped["0.velocity"] = Tensor::zeros({4});
  check_error([&] { moving.load_state(reshaped); }, {"0.velocity", "[4]", "[5]"});
}

TEST_CASE("a parameter without a gradient stays, and zero_grad clears") {
  for (const Run& run : runs) {
    INFO(run.name);
    std::vector<Tensor> w = parameters(DType::float64);
    const std::vector<double> before = w[1].to_vector<double>();
    const std::unique_ptr<Optimizer> optimizer = run.make(w);
    w[0].set_grad(Tensor::ones({5}, DType::float64));
    optimizer->step();
    CHECK(w[1].to_vector<double>() == before);
    CHECK(w[0].to_vector<double>() != parameters(DType::float64)[0].to_vector<double>());
    optimizer->zero_grad();
    CHECK(!w[0].grad().defined());
  }
}

TEST_CASE("schedules") {
  const std::vector<double> cosine = fixture().at("cosine").to_vector<double>();
  for (Index step = 0; step < 13; ++step)
    CHECK(std::abs(cosine_schedule(step, 10, 0.1, 0.01) - cosine[static_cast<std::size_t>(step)]) <
          1e-8);  // made in float32
  CHECK(cosine_schedule(0, 0, 0.1, 0.01) == doctest::Approx(0.01));
  CHECK(warmup_cosine_schedule(0, 4, 14, 0.1) == doctest::Approx(0.025));
  CHECK(warmup_cosine_schedule(3, 4, 14, 0.1) == doctest::Approx(0.1));
  for (Index step = 4; step < 17; ++step)
    CHECK(warmup_cosine_schedule(step, 4, 14, 0.1, 0.01) ==
          cosine_schedule(step - 4, 10, 0.1, 0.01));
  CHECK(warmup_cosine_schedule(0, 0, 10, 0.1) == 0.1);
}
