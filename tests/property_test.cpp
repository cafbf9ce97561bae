// Random calls of every operation: on every device, rung and type, fused or not, recorded or not,
// their results and gradients are what plain loops over scalars say.
//
// A failure names its seed; `./chalk stress --seed N` runs that call alone. `./chalk stress
// MINUTES` draws new ones for so long.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <set>

#include "autograd/node.h"
#include "tests/properties.h"
#include "tests/registry.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

using Numbers = std::vector<double>;

// All that a call gives: its result, the gradients of its leaves, and the other inputs as they are
// then.
struct Outcome {
  std::vector<std::string> names;
  std::vector<Numbers> values;

  void add(const std::string& name, const Numbers& numbers) {
    names.push_back(name);
    values.push_back(numbers);
  }
};

Numbers output_gradient(std::uint64_t seed, std::size_t count) {
  Generator stream{seed, 0};
  Numbers gradient(count);
  for (double& number : gradient)
    number = static_cast<float>(2 * stream.uniform() - 1);
  return gradient;
}

Numbers values_of(const Scalars& scalars) {
  Numbers values;
  for (const Scalar& scalar : scalars)
    values.push_back(scalar.value);
  return values;
}

Outcome judge(const Trial& trial, std::uint64_t seed, double noise = 0, std::uint64_t run = 0) {
  Tape tape(noise, run);
  std::vector<Scalars> inputs;
  for (const Tensor& input : trial.inputs) {
    Scalars scalars;
    for (const double value : input.to_vector<double>())
      scalars.push_back(inputs.size() < trial.leaves ? tape.variable(value) : Scalar(value));
    inputs.push_back(scalars);
  }
  std::vector<Scalars> after = inputs;
  const Scalars y = trial.plain(after);
  Outcome outcome;
  outcome.add("result", values_of(y));
  tape.backward(y, output_gradient(seed, y.size()));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Numbers numbers;
    for (const Scalar& scalar : i < trial.leaves ? inputs[i] : after[i])
      numbers.push_back(i < trial.leaves ? tape.gradient(scalar) : scalar.value);
    outcome.add((i < trial.leaves ? "gradient " : "input ") + std::to_string(i), numbers);
  }
  return outcome;
}

Tensors inputs_of(const Trial& trial, DType dtype, Device device) {
  Tensors inputs;
  for (const Tensor& input : trial.inputs) {
    inputs.push_back(input.clone().to(dtype).to(device));
    inputs.back().set_requires_grad(inputs.size() <= trial.leaves);
  }
  return inputs;
}

Outcome run(const Trial& trial, std::uint64_t seed, DType dtype, Device device) {
  const Tensors inputs = inputs_of(trial, dtype, device);
  const Tensor y = trial.operation(inputs);
  Outcome outcome;
  outcome.add("result", y.to_vector<double>());
  if (trial.leaves > 0) {
    const Numbers gradient = output_gradient(seed, static_cast<std::size_t>(y.numel()));
    y.backward(Tensor::from(gradient, y.shape()).to(dtype).to(device));
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const bool leaf = i < trial.leaves;
    outcome.add((leaf ? "gradient " : "input ") + std::to_string(i),
                (leaf ? inputs[i].grad() : inputs[i]).to_vector<double>());
  }
  return outcome;
}

// |a - b| in the Euclidean norm; infinite where a has a NaN or another size.
double distance(const Numbers& a, const Numbers& b) {
  if (a.size() != b.size()) return INFINITY;
  double squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    squares += (a[i] - b[i]) * (a[i] - b[i]);
  return std::isnan(squares) ? INFINITY : std::sqrt(squares);
}

// ---- the ways of computing a call ----

std::vector<Way> ways_of(Ladder ladder, Device device) {
  if (ladder == Ladder::convolutions) return convolution_ways(device);
  if (ladder == Ladder::products) return product_ways(device);
  if (ladder == Ladder::fusion)
    return {{"fused", [] { set_fusion(true); }}, {"composed", [] { set_fusion(false); }}};
  return row_ways(device);
}

// ---- one trial ----

// How far a rounding unit of 2^-24, float32's, in every step of the plain loops moves each result:
// the worst of four runs, since where there are few numbers, one may happen to hit them.
std::vector<double> effects_of_rounding(const Trial& trial, std::uint64_t seed,
                                        const Outcome& expected) {
  std::vector<double> effects(expected.values.size());
  for (std::uint64_t run = 1; run <= 4; ++run) {
    const Outcome noisy = judge(trial, seed, 0x1p-24, run);
    for (std::size_t i = 0; i < effects.size(); ++i)
      effects[i] = std::max(effects[i], distance(noisy.values[i], expected.values[i]));
  }
  return effects;
}

// A fast algorithm may lose more than plain loops do: Winograd's transforms, a variance in one
// pass.
constexpr double margin = 100;

// What is wrong with trial `seed`; "" if nothing is.
std::string problem_of(std::uint64_t seed) {
  const Choices before;
  const Trial trial = draw_trial(seed);
  const Outcome expected = judge(trial, seed);
  const std::vector<double> effects = effects_of_rounding(trial, seed, expected);
  std::ostringstream text;
  for (const Device device : devices())
    for (const DType dtype : {DType::float64, DType::float32})
      for (const Way& way : ways_of(trial.ladder, device)) {
        way.choose();
        cpu::set_num_threads(1);
        const double unit = dtype == DType::float64 ? 0x1p-29 : 1;  // of float32's
        const Outcome actual = run(trial, seed, dtype, device);
        for (std::size_t i = 0; i < effects.size(); ++i) {
          const double error = distance(actual.values[i], expected.values[i]);
          if (error > margin * effects[i] * unit)
            text << "\n  " << way.name << ", " << to_string(dtype) << " on " << to_string(device)
                 << ": " << expected.names[i] << " is off by " << error << "; rounding explains "
                 << effects[i] * unit;
        }
        cpu::set_num_threads(2);
        if (run(trial, seed, dtype, device).values != actual.values)
          text << "\n  " << way.name << ", " << to_string(dtype)
               << ": two threads give other bits than one";
        const NoGrad no_grad;
        if (trial.operation(inputs_of(trial, dtype, device)).to_vector<double>() !=
            actual.values[0])
          text << "\n  " << way.name << ", " << to_string(dtype)
               << ": unrecorded it gives other bits";
      }
  return text.str().empty() ? "" : trial.call + text.str();
}

// Whether trial `seed` is right; else says what is not, and how to see it again.
bool check_trial(std::uint64_t seed) {
  const std::string problem = problem_of(seed);
  CHECK_MESSAGE(problem.empty(), problem, "\nagain: ./chalk stress --seed ", seed);
  return problem.empty();
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace

TEST_CASE("a tape of scalars differentiates") {
  Tape tape;
  const Scalar x = tape.variable(3), y = tape.variable(2);
  tape.backward({x * x + x * y, exp(y) / x}, {1, 3});
  CHECK(tape.gradient(x) == doctest::Approx(8 - 3 * std::exp(2) / 9));
  CHECK(tape.gradient(y) == doctest::Approx(3 + 3 * std::exp(2) / 3));
}

TEST_CASE("every operation is drawn") {
  const std::vector<std::string> names = drawn_operations();
  const std::set<std::string> drawn(names.begin(), names.end());
  for (const Operation& operation : registry())
    CHECK_MESSAGE(drawn.count(operation.name), operation.name, " is not in tests/properties.cpp");
}

// CHALK_TRIALS of them: emulated and watched by a sanitizer they take long.
TEST_CASE("random calls are what plain loops say") {
  const std::string trials = environment("CHALK_TRIALS");
  const std::uint64_t count = trials.empty() ? 3000 : std::stoull(trials);
  for (std::uint64_t seed = 0; seed < count; ++seed)
    check_trial(seed);
}

// What `./chalk stress` runs: for CHALK_STRESS_MINUTES, or the trial CHALK_STRESS_SEED alone.
TEST_CASE("stress" * doctest::skip()) {
  if (const std::string seed = environment("CHALK_STRESS_SEED"); !seed.empty()) {
    const std::uint64_t number = std::stoull(seed);
    std::printf("%s\n", draw_trial(number).call.c_str());
    check_trial(number);
    return;
  }
  const double minutes = std::stod(environment("CHALK_STRESS_MINUTES"));
  const auto start = std::chrono::steady_clock::now();
  std::uint64_t seed = std::uint64_t{std::random_device()()} << 32;
  int trials = 0, wrong = 0, shown = 0;
  for (double spent = 0; spent < minutes && wrong < 20; ++trials) {
    wrong += !check_trial(seed++);
    spent = std::chrono::duration<double, std::ratio<60>>(std::chrono::steady_clock::now() - start)
                .count();
    if (spent * 6 < shown) continue;  // a line every ten seconds
    std::printf("%d calls, %d wrong, %.1f minutes left\n", trials + 1, wrong, minutes - spent);
    std::fflush(stdout);
    shown = static_cast<int>(spent * 6) + 1;
  }
  std::printf("%d calls on every rung and type, %d wrong\n", trials, wrong);
}
