// Misuse: calls that make no sense, which must end in an Error that says so, not in a crash.
//
// Each row runs in a process of its own, so that a crash, a call without an end or a sanitizer's
// report costs one row. This process runs no kernel: a child of one that has started threads could
// not start its own. What the shape and type of a tensor may be for each operation is in
// registry.cpp; here is the rest of what a student might pass, or a fuzzer.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <iostream>
#include <limits>
#include <sstream>
#include <string_view>

#include "autograd/backend.h"
#include "autograd/check.h"
#include "autograd/fusion.h"
#include "autograd/gradcheck.h"
#include "autograd/node.h"
#include "autograd/operations.h"
#include "data/data_loader.h"
#include "data/files.h"
#include "data/pictures.h"
#include "data/safetensors.h"
#include "layers/attention.h"
#include "layers/patch_extraction.h"
#include "layers/resnet.h"
#include "layers/simple.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"

using namespace chalk;

namespace {

constexpr unsigned kSeconds = 10;  // that a row may take
constexpr Index kMost = std::numeric_limits<Index>::max();
constexpr Index kLeast = std::numeric_limits<Index>::min();
constexpr Index kHuge = Index{1} << 40;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

int rows = 0, failures = 0;

// ---- a row ----

using Words = std::initializer_list<std::string_view>;

// A function that outlives its use: hundreds of std::function take the compiler twice as long.
class Call {
 public:
  template <typename Function>
  Call(const Function& function)
      : address_(&function),
        call_([](const void* address) { (*static_cast<const Function*>(address))(); }) {}
  void operator()() const { call_(address_); }

 private:
  const void* address_;
  void (*call_)(const void* address);
};

// What the child does: its last words go to the parent.
std::string outcome(const Call& call) {
  try {
    call();
    return "no error";
  } catch (const Error& error) {
    return std::string("Error: ") + error.what();
  } catch (const std::exception& error) {
    return std::string("not an Error but ") + error.what();
  }
}

// All that the process writes until it ends, and how it ends.
std::string outcome_of(pid_t child, int pipe) {
  std::string text;
  char buffer[4096];
  for (ssize_t count; (count = read(pipe, buffer, sizeof(buffer))) > 0;)
    text.append(buffer, static_cast<std::size_t>(count));
  close(pipe);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) return "no end\n" + text;
  if (WIFSIGNALED(status))
    return std::string("crash: ") + strsignal(WTERMSIG(status)) + '\n' + text;
  return WEXITSTATUS(status) == 0 ? text : "crash\n" + text;
}

// Fails unless the outcome of the call is `start` and what contains all of the words.
void expect(const Call& call, std::string_view start, Words words, int line) {
  int pipes[2];
  check(pipe(pipes) == 0, "misuse: cannot open a pipe");
  const pid_t child = fork();
  check(child >= 0, "misuse: cannot start a process");
  if (child == 0) {
    alarm(kSeconds);
    dup2(pipes[1], STDERR_FILENO);
    std::cerr << outcome(call) << std::flush;
    _exit(0);
  }
  close(pipes[1]);
  const std::string text = outcome_of(child, pipes[0]);
  // Before the outcome a sanitizer may have warned of memory that it could not allocate.
  bool holds =
      text.find(start) != text.npos && !text.starts_with("crash") && !text.starts_with("no end");
  for (std::string_view word : words)
    holds = holds && text.find(word) != text.npos;
  ++rows;
  if (holds) return;
  ++failures;
  std::cout << "tests/misuse.cpp:" << line << ": " << text << "\n  expected " << start;
  for (std::string_view word : words)
    std::cout << " \"" << word << '"';
  std::cout << std::endl;
}

void fails(Words words, const Call& call, int line = __builtin_LINE()) {
  expect(call, "Error: ", words, line);
}

void works(const Call& call, int line = __builtin_LINE()) {
  expect(call, "no error", {}, line);
}

// ---- what rows are made of ----

Tensor ones(Shape shape) {
  return Tensor::ones(std::move(shape));
}

Tensor leaf(Shape shape, DType dtype = DType::float32) {
  return Tensor::ones(std::move(shape), dtype).set_requires_grad();
}

Tensor integers(Shape shape) {
  return Tensor::ones(std::move(shape), DType::int64);
}

// A module whose parts are up to the row.
struct Part : Module {
  using Module::add_buffer, Module::add_module, Module::add_parameter;
  Tensor forward(const Tensor& x) override { return x; }
  std::string describe() const override { return "Part"; }
};

// An operation of two inputs with a backward pass that is up to the row.
struct Custom final : Node {
  Gradients gradients;
  explicit Custom(Gradients given) : Node("custom"), gradients(std::move(given)) {}
  Gradients backward(const Tensor&) override { return gradients; }
};

Tensor custom(const Tensor& a, const Tensor& b, Gradients gradients) {
  Tensor y = ones({});
  record(y, std::make_shared<Custom>(std::move(gradients)), {a, b});
  return y;
}

// ---- autograd/tensor.h ----

void tensor_rows() {
  fails({"[-1]"}, [] { Tensor({-1}); });
  fails({"[-2, -3]"}, [] { Tensor({-2, -3}); });
  fails({"shape"}, [] { Tensor({kLeast}); });
  fails({"more elements"}, [] { Tensor({kMost}); });
  fails({"more elements"}, [] { Tensor({kHuge, kHuge}); });
  fails({"more elements"}, [] { Tensor({kHuge, 0, kHuge}); });
  fails({"more elements"}, [] { Tensor({kMost, kMost, kMost, kMost}); });
  fails({"out of memory"}, [] { Tensor({Index{1} << 50}); });
  fails({"out of memory"}, [] { Tensor({Index{1} << 59}); });
  fails({"CUDA"}, [] { Tensor({1}, DType::float32, Device::cuda); });
  works([] { Tensor({0}); });
  works([] { Tensor({kHuge, 0}); });
  works([] { Tensor(Shape(100, 1)); });
  fails({"[-1]"}, [] { Tensor::full({-1}, 1); });
  works([] { check(std::isnan(Tensor::full({1}, kNan).item()), "not NaN"); });
  works([] { Tensor::full({1}, kNan, DType::int64).item(); });
  works([] { Tensor::full({1}, 1e300, DType::uint8).item(); });
  works([] { Tensor::full({1}, -kInfinity, DType::int64).item(); });
  works([] { Tensor::full({1}, 1e300, DType::float32).item(); });
  works([] { Tensor::rand({0}); });
  works([] { Tensor::randn({0}); });
  works([] { Tensor::randn({3}); });
  fails({"int64"}, [] { Tensor::rand({2}, default_generator(), DType::int64); });
  fails({"uint8"}, [] { Tensor::randn({2}, default_generator(), DType::uint8); });
  fails({"[-3]"}, [] { Tensor::rand({-3}); });
  works([] {
    Generator last{1, std::numeric_limits<std::uint64_t>::max()};
    Tensor::rand({3}, last);
    Tensor::randn({3}, last);
  });
  fails({"0 values", "[]"}, [] { Tensor::from<float>({}, {}); });
  fails({"[-1]"}, [] { Tensor::from<float>({1}, {-1}); });
  fails({"[-1, -1]"}, [] { Tensor::from<float>({1}, {-1, -1}); });
  fails({"1 values", "[0]"}, [] { Tensor::from<std::uint8_t>({1}, {0}); });
  works([] { Tensor::from<double>({}, {3, 0}); });

  fails({"axis", "[2]"}, [] { ones({2}).size(kMost); });
  fails({"axis", "[2]"}, [] { ones({2}).size(kLeast); });
  fails({"axis 0", "[]"}, [] { ones({}).size(0); });
  fails({"axis -1", "[]"}, [] { ones({}).size(-1); });
  fails({"item", "[0]"}, [] { ones({0}).item(); });
  fails({"int64", "float32"}, [] { integers({2}).data<float>(); });
  fails({"int64", "uint8"}, [] { integers({2}).mutable_data<std::uint8_t>(); });
  works([] { ones({0}).data<float>(); });
  works([] { check(ones({0}).to_vector<double>().empty(), "not empty"); });
  works([] { ones({0, 3}).to_vector<std::int64_t>(); });
  works([] { Tensor::full({1}, kNan).to_vector<std::uint8_t>(); });
  works([] { std::ostringstream() << Tensor(); });
  works([] { std::ostringstream() << ones({0}); });
  works([] { std::ostringstream() << ones({3, 0, 2}); });
  works([] { std::ostringstream() << Tensor({kHuge, 0}); });
  works([] { std::ostringstream() << Tensor({0, kHuge}); });
  works([] { std::ostringstream() << ones(Shape(200, 1)); });
  works([] { std::ostringstream() << Tensor::full({3}, -kNan) << Tensor::full({}, kInfinity); });
  works([] { std::ostringstream() << Tensor::full({2}, 1e308, DType::float64); });
  works([] { std::ostringstream() << Tensor::full({2}, 5e-324, DType::float64); });
  works([] { std::ostringstream() << Tensor::full({1}, -1e300, DType::int64); });

  // Gradients.
  fails({"set_requires_grad", "int64"}, [] { integers({1}).set_requires_grad(); });
  fails({"set_requires_grad", "multiply"}, [] { (leaf({2}) * 2.0).set_requires_grad(); });
  works([] { leaf({2}).set_requires_grad().set_requires_grad(false).set_requires_grad(false); });
  fails({"set_grad", "[3]", "[2]"}, [] { leaf({2}).set_grad(ones({3})); });
  fails({"set_grad", "[2]", "[3]"}, [] { leaf({3}).set_grad(ones({2})); });
  fails({"set_grad", "[3, 2]", "[2, 3]"}, [] { leaf({2, 3}).set_grad(ones({3, 2})); });
  fails({"set_grad", "[]", "[2]"}, [] { leaf({2}).set_grad(ones({})); });
  fails({"set_grad", "[0]", "[2]"}, [] { leaf({2}).set_grad(ones({0})); });
  fails({"set_grad", "int64", "float32"}, [] { leaf({2}).set_grad(integers({2})); });
  fails({"float64", "float32"}, [] { leaf({2}).set_grad(Tensor::ones({2}, DType::float64)); });
  fails({"set_grad", "require"}, [] { ones({2}).set_grad(ones({2})); });
  fails({"undefined"}, [] { Tensor().set_grad(Tensor()); });
  fails({"undefined"}, [] { Tensor().zero_grad(); });
  works([] { ones({2}).zero_grad(); });
  works([] {  // a gradient of the tensor's own elements
    Tensor x = leaf({2});
    x.set_grad(x);
    sum(x * 3.0).backward();
    check(x.to_vector<float>() == std::vector<float>{1, 1}, "x is ", x);
    check(x.grad().to_vector<float>() == std::vector<float>{4, 4}, "its gradient is ", x.grad());
  });
  works([] {  // a gradient that has a history
    Tensor x = leaf({2});
    x.set_grad(x * 2.0);
    sum(x).backward();
    check(x.grad().to_vector<float>() == std::vector<float>{3, 3}, "its gradient is ", x.grad());
  });
  works([] {  // one gradient for two tensors
    Tensor x = leaf({2}), y = leaf({2}), gradient = ones({2});
    x.set_grad(gradient);
    y.set_grad(gradient);
    sum(x * 3.0).backward();
    check(y.grad().to_vector<float>() == std::vector<float>{1, 1}, "y's gradient is ", y.grad());
  });
  fails({"retain_grad"}, [] { ones({1}).retain_grad(); });
  works([] { leaf({1}).retain_grad(); });
  fails({"backward", "[2]"}, [] { leaf({2}).backward(); });
  fails({"backward", "[0]"}, [] { leaf({0}).backward(); });
  fails({"backward", "history"}, [] { ones({}).backward(); });
  fails({"backward", "history"}, [] { integers({}).backward(); });
  fails({"backward", "[2]"}, [] { leaf({2}).backward(ones({3})); });
  fails({"backward", "[2]"}, [] { leaf({2}).backward(ones({})); });
  fails({"backward", "type"}, [] { leaf({2}).backward(integers({2})); });
  works([] { leaf({0}).backward(ones({0})); });
  works([] { leaf({}).backward(); });
  works([] {
    Tensor x = leaf({2});
    x.backward(x);
    check(x.grad().to_vector<float>() == std::vector<float>{1, 1}, "its gradient is ", x.grad());
    check(x.to_vector<float>() == std::vector<float>{1, 1}, "x is ", x);
  });
  fails({"sum", "freed"}, [] {
    Tensor y = sum(leaf({2}));
    y.backward();
    y.backward();
  });
  works([] {
    Tensor y = sum(leaf({2}));
    y.backward(true);
    y.backward(true);
    y.backward();
  });
  fails({"backward", "NoGrad"}, [] {
    NoGrad no_grad;
    sum(leaf({2})).backward();
  });
  works([] {
    Tensor y = sum(leaf({2}) * 2.0);
    NoGrad no_grad;
    y.backward();
  });
  fails({"multiply", "overwritten"}, [] {
    Tensor x = leaf({2}), y = sum(x * x);
    NoGrad no_grad;
    x.copy_from(ones({2}));
    y.backward();
  });
  fails({"float32", "float64"}, [] {  // the gradient of a parameter that was converted meanwhile
    Tensor x = leaf({2}), y = sum(x * 2.0);
    x.set_data(x.to(DType::float64));
    y.backward();
  });

  // Elements.
  works([] {
    Tensor x = leaf({2});
    x.copy_from(x);
    x.set_data(x);
    x = *&x;
    check(x.to_vector<float>() == std::vector<float>{1, 1}, "x is ", x);
  });
  fails({"undefined"}, [] { Tensor().copy_from(Tensor()); });
  fails({"copy_from", "[]", "[2]"}, [] { ones({2}).copy_from(ones({})); });
  fails({"copy_from", "int64", "float32"}, [] { ones({2}).copy_from(integers({2})); });
  works([] { ones({0}).copy_from(ones({0})); });
  fails({"set_data", "[2, 1]", "[2]"}, [] { ones({2}).set_data(ones({2, 1})); });
  fails({"set_data", "int64"}, [] { leaf({2}).set_data(integers({2})); });
  works([] { ones({2}).set_data(integers({2})); });
  fails({"CUDA"}, [] { ones({1}).to(Device::cuda); });
  works([] { ones({0}).to(DType::uint8).to(DType::int64).to(DType::float64); });
  fails({"backward"}, [] { sum(leaf({2}).to(DType::int64).to(DType::float32)).backward(); });
  fails({"undefined"}, [] {
    Tensor x = ones({2});
    const Tensor y = std::move(x);
    x.numel();
  });

  // For operations.
  fails({"undefined"}, [] { Tensor().node(); });
  fails({"undefined"}, [] { Tensor().storage(); });
  fails({"undefined"}, [] { Tensor().set_node(nullptr); });
  fails({"undefined"}, [] { Tensor().set_node(std::make_shared<LeafNode>()); });
  fails({"set_node", "int64"}, [] { integers({1}).set_node(leaf({1}).node()); });
  works([] { ones({2}).set_node(nullptr); });
  works([] { check(!Tensor().is_unique(), "nothing is unique"); });
  fails({"undefined"}, [] { Tensor().with_shape({}); });
  fails({"[-2, -3]"}, [] { ones({6}).with_shape({-2, -3}); });
  fails({"[-1, 6, -1]"}, [] { ones({6}).with_shape({-1, 6, -1}); });
  fails({"[-1]"}, [] { ones({6}).with_shape({-1}); });
  fails({"with_shape", "[6]", "[7]"}, [] { ones({6}).with_shape({7}); });
  fails({"with_shape", "[6]", "[]"}, [] { ones({6}).with_shape({}); });
  fails({"more elements"}, [] { ones({0}).with_shape({kHuge, kHuge, 0}); });
  fails({"[-4, 0]"}, [] { ones({0}).with_shape({-4, 0}); });
  works([] { ones({0}).with_shape({0, 5}); });
  works([] { ones({1}).with_shape({}); });
}

// ---- autograd/node.h ----

void node_rows() {
  fails({"undefined"}, [] { Saved().get(); });
  fails({"undefined"}, [] { Saved().shape(); });
  works([] { Saved saved{Tensor()}; });
  works([] { Saved(leaf({2})).get(); });
  fails({"undefined"}, [] { should_record(std::vector<Tensor>(2)); });
  works([] { check(!should_record(std::vector<Tensor>()), "nothing to record"); });
  fails({"undefined"}, [] {
    Tensor undefined;
    record(undefined, std::make_shared<LeafNode>(), {});
  });
  fails({"record", "null"}, [] {
    Tensor y = ones({});
    record(y, nullptr, {leaf({1})});
  });
  fails({"custom", "1 gradients", "2 inputs"}, [] {
    Tensor y = ones({}), z = ones({});
    const auto node = std::make_shared<Custom>(Gradients{ones({2})});
    record(y, node, {leaf({2})});
    record(z, node, {leaf({2})});
    z.backward();
  });
  works([] { custom(leaf({2}), leaf({3}), {ones({2}), ones({3})}).backward(); });
  works([] { custom(leaf({2}), ones({3}), {ones({2}), {}}).backward(); });
  fails({"custom", "1 gradients", "2 inputs"},
        [] { custom(leaf({2}), leaf({3}), {ones({2})}).backward(); });
  fails({"custom", "0 gradients", "2 inputs"}, [] { custom(leaf({2}), leaf({3}), {}).backward(); });
  fails({"custom", "3 gradients", "2 inputs"}, [] {
    custom(leaf({2}), leaf({3}), {ones({2}), ones({3}), ones({4})}).backward();
  });
  fails({"custom", "input 0", "undefined"}, [] {
    custom(leaf({2}), leaf({3}), {{}, ones({3})}).backward();
  });
  fails({"custom", "input 1", "[2]", "[3]"}, [] {
    custom(leaf({2}), leaf({3}), {ones({2}), ones({2})}).backward();
  });
  fails({"custom", "input 1", "[3, 1]", "[3]"}, [] {
    custom(leaf({2}), leaf({3}), {ones({2}), ones({3, 1})}).backward();
  });
  fails({"custom", "input 1", "int64", "float32"}, [] {
    custom(leaf({2}), leaf({3}), {ones({2}), integers({3})}).backward();
  });
  fails({"custom", "input 1", "float64", "float32"}, [] {
    Tensor x = leaf({2});
    custom(x, x, {ones({2}), Tensor::ones({2}, DType::float64)}).backward();
  });
  works([] {  // a long chain
    Tensor y = leaf({1});
    for (int i = 0; i < 10000; ++i)
      y = -y;
    y.backward();
  });
}

// ---- autograd/gradcheck.h ----

void gradcheck_rows() {
  const auto square = [](const std::vector<Tensor>& x) { return x[0] * x[0]; };
  const auto x = [] { return leaf({2}, DType::float64); };
  fails({"gradcheck of square", "input"}, [=] { gradcheck("square", square, {}); });
  fails({"gradcheck of square", "undefined"}, [=] { gradcheck("square", square, {Tensor()}); });
  fails({"gradcheck of square", "function"}, [=] { gradcheck("square", nullptr, {x()}); });
  fails({"gradcheck of square", "float64"}, [=] { gradcheck("square", square, {leaf({2})}); });
  fails({"multiply", "int64"}, [=] { gradcheck("square", square, {integers({2})}); });
  fails({"gradcheck of square", "gradient"}, [=] { gradcheck("square", square, {x().detach()}); });
  fails({"gradcheck of f", "undefined"},
        [=] { gradcheck("f", [](const auto&) { return Tensor(); }, {x()}); });
  fails({"gradcheck of f", "gradient"},
        [=] { gradcheck("f", [](const auto&) { return integers({2}); }, {x()}); });
  fails({"multiply", "float32", "float64"},
        [=] { gradcheck("f", [](const auto&) { return leaf({2}); }, {x()}); });
  fails({"gradcheck of square", "step 0"},
        [=] { gradcheck("square", square, {x()}, {.step = 0}); });
  fails({"step -1"}, [=] { gradcheck("square", square, {x()}, {.step = -1}); });
  fails({"step nan"}, [=] { gradcheck("square", square, {x()}, {.step = kNan}); });
  fails({"step inf"}, [=] { gradcheck("square", square, {x()}, {.step = kInfinity}); });
  fails({"tolerance nan"}, [=] { gradcheck("square", square, {x()}, {.tolerance = kNan}); });
  fails({"tolerance -1"}, [=] { gradcheck("square", square, {x()}, {.tolerance = -1}); });
  fails({"projections -1"}, [=] { gradcheck("square", square, {x()}, {.projections = -1}); });
  works([=] { check(gradcheck("", square, {x()}).passed, "x * x has a gradient"); });
  works([=] { gradcheck("first", [](const auto& in) { return in[0]; }, {x()}); });
  works([=] { gradcheck("square", square, {leaf({0}, DType::float64)}); });
  works([=] { gradcheck("square", square, {leaf({}, DType::float64), integers({2})}); });
  works([=] { gradcheck("square", square, {leaf({0}, DType::float64)}, {.projections = 2}); });
}

// ---- autograd/operations.h ----

void elementwise_rows() {
  works([] { ones({kHuge, 0}) + ones({1, 1}); });
  works([] { ones({kHuge, 0}) * ones({kHuge, 0}); });
  fails({"more elements"}, [] { Tensor({kHuge, 0, 1}) + Tensor({1, 0, kHuge}); });
  works([] { sum(leaf({3, 0}) + leaf({3, 1})).backward(); });
  works([] { ones(Shape(70, 1)) + ones(Shape(70, 1)); });
  works([] { sum(leaf(Shape(70, 1)) * leaf({2})).backward(); });
  works([] { ones({2}) / 0.0 + kNan; });
  works([] {
    Tensor x = leaf({2});
    x = x + x;
    x = x * x;
    sum(x - x).backward();
  });
  works([] { sum(log(leaf({2}) * -1.0) + sqrt(leaf({2}) * 0.0)).backward(); });
  works([] { exp(ones({2}) * 1e30) + tanh(ones({2}) * kInfinity) + sigmoid(ones({2}) * kNan); });
  fails({"divide", "undefined"}, [] { 1.0 / Tensor(); });
  fails({"subtract", "undefined"}, [] { Tensor() - 1.0; });
}

void reduction_rows() {
  for (const auto f : {&sum, &mean, &max}) {
    fails({"axis", "[2, 3]"}, [=] { f(ones({2, 3}), {kMost}, false); });
    fails({"axis", "[2, 3]"}, [=] { f(ones({2, 3}), {kLeast}, false); });
    fails({"twice"}, [=] { f(ones({2, 3}), {0, 0}, false); });
    fails({"axis 2"}, [=] { f(ones({2, 3}), {0, 1, 2, 3}, true); });
    fails({"twice"}, [=] { f(ones({2, 3}), std::vector<Index>(1000, 1), true); });
    works([=] { f(ones(Shape(70, 1)), {}, true); });
    works([=] { f(ones(Shape(70, 1)), {0, 5, 69}, false); });
    works([=] { f(ones({0, 3}), {1}, false); });
    works([=] { f(ones({kHuge, 0, 2}), {2}, false); });
    works([=] { f(Tensor::full({2, 3}, kNan), {0}, false); });
  }
  works([] { sum(Tensor({kHuge, 0, 1024}), {0, 2}); });
  fails({"out of memory"}, [] { sum(Tensor({kHuge, 0, 1024}), {1}); });
  fails({"out of memory"}, [] { sum(Tensor({kHuge, 0, 8}), {1}); });
  fails({"max", "no elements"}, [] { max(ones({0})); });
  works([] { check(std::isnan(mean(ones({0})).item()), "the mean of nothing is a number"); });
  works([] { sum(mean(leaf({0, 2}), {0})).backward(); });
  fails({"argmax", "axis"}, [] { argmax(ones({2}), kMost); });
  fails({"argmax", "axis"}, [] { argmax(ones({2}), kLeast); });
  works([] { argmax(Tensor({kHuge, 0, 2}), 2); });
  works([] { argmax(Tensor::full({3}, kNan)); });
}

void movement_rows() {
  fails({"reshape"}, [] { reshape(ones({2}), {kLeast}); });
  fails({"elements"}, [] { reshape(ones({2}), {kMost, kMost}); });
  fails({"more elements"}, [] { reshape(ones({2}), {-1, kMost}); });
  fails({"reshape", "-1"}, [] { reshape(ones({0}), {-1, 0}); });
  fails({"more elements"}, [] { reshape(ones({0}), {kHuge, kHuge, 0}); });
  fails({"reshape", "[3]", "[2, -1]"}, [] { reshape(ones({3}), {2, -1}); });
  works([] {
    check(reshape(ones({0}), {5, -1}).shape() == Shape{5, 0}, "the open size is not 0");
  });
  works([] { reshape(reshape(integers({4}), {2, 2}), {-1}); });
  works([] {
    const Tensor x = leaf({4});
    sum(reshape(x, {4}) + x).backward();
  });
  fails({"permute", "axis"}, [] { permute(ones({2, 3}), {kMost, 0}); });
  fails({"permute", "axis"}, [] { permute(ones({2, 3}), {kLeast, 0}); });
  fails({"permute", "0 axes"}, [] { permute(ones({2, 3}), {}); });
  fails({"permute", "1 axes"}, [] { permute(ones({}), {0}); });
  works([] {
    permute(ones(Shape(70, 1)), [] {
      std::vector<Index> axes;
      for (Index axis = 70; axis-- > 0;)
        axes.push_back(axis);
      return axes;
    }());
  });
  works([] { permute(Tensor({kHuge, 0, 3}), {2, 1, 0}); });
  fails({"transpose", "axis"}, [] { transpose(ones({2, 3}), kMost, 0); });
  fails({"transpose", "axis"}, [] { transpose(ones({2, 3}), 0, kLeast); });
  works([] { transpose(ones({2, 3}), 1, 1); });
  works([] { transpose(Tensor({kHuge, 0})); });
  fails({"concatenate", "undefined"}, [] { concatenate({Tensor()}, 0); });
  fails({"concatenate", "undefined"}, [] { concatenate({ones({2}), Tensor()}, 0); });
  fails({"concatenate", "int64"}, [] { concatenate({ones({2}), integers({2})}, 0); });
  fails({"concatenate", "axis"}, [] { concatenate({ones({2})}, kMost); });
  fails({"concatenate", "axis"}, [] { concatenate({ones({2})}, kLeast); });
  fails({"concatenate", "axis 0"}, [] { concatenate({ones({})}, 0); });
  for (const std::size_t count : {2, 16, 32, 33})  // 2^63 is one more than Index holds
    fails({"more elements"}, [=] {
      concatenate(std::vector<Tensor>(count, Tensor({Index{1} << 59, 0})), 0);
    });
  works([] { concatenate({Tensor({kHuge, 0}), Tensor({kHuge, 0})}, 0); });
  works([] { concatenate({Tensor({kHuge, 0}), Tensor({kHuge, 0})}, 1); });
  works([] { concatenate(std::vector<Tensor>(2000, ones({1})), 0); });
  fails({"slice", "axis"}, [] { slice(ones({3}), kMost, 0, 1); });
  fails({"slice", "[3]"}, [] { slice(ones({3}), 0, kLeast, kMost); });
  fails({"slice", "[3]"}, [] { slice(ones({3}), 0, 0, kMost); });
  fails({"slice", "[3]"}, [] { slice(ones({3}), 0, kMost, kMost); });
  fails({"slice", "axis 0"}, [] { slice(ones({}), 0, 0, 0); });
  works([] { slice(Tensor({kHuge, 0, 4}), 2, 1, 3); });
  works([] { sum(slice(leaf({3}), 0, 3, 3)).backward(); });
}

void product_rows() {
  works([] { matmul(Tensor({kHuge, 0}), Tensor({0, 0})); });
  works([] { matmul(Tensor({0, kHuge}), Tensor({kHuge, 0})); });
  works([] { matmul(Tensor({kHuge, 0, 2}), Tensor({2, 3})); });
  fails({"more elements"}, [] { matmul(Tensor({kHuge, 0}), Tensor({0, kHuge})); });
  fails({"out of memory"}, [] { matmul(Tensor({kHuge, 0}), Tensor({0, 8})); });
  works([] { sum(matmul(leaf({3, 0}), leaf({0, 2}))).backward(); });
  works([] { sum(matmul(leaf({0, 3, 4}), leaf({4, 2}))).backward(); });
  works([] {
    const Tensor x = leaf({3, 3});
    sum(matmul(x, x)).backward();
  });
  for (const Shape& shape : {Shape{}, Shape{3}, Shape{0}})
    fails({"scaled_dot_product_attention", to_string(shape)},
          [&] { scaled_dot_product_attention(ones(shape), ones(shape), ones(shape)); });
  fails({"scaled_dot_product_attention", "[2, 0]"}, [] {
    scaled_dot_product_attention(ones({2, 0}), ones({3, 0}), ones({3, 4}));
  });
  works([] { scaled_dot_product_attention(ones({2, 4}), ones({0, 4}), ones({0, 3})); });
  works([] { scaled_dot_product_attention(ones({0, 4}), ones({2, 4}), ones({2, 3})); });
}

void softmax_rows() {
  for (const auto f : {&softmax, &log_softmax}) {
    fails({"axis"}, [=] { f(ones({2}), kMost); });
    fails({"axis"}, [=] { f(ones({2}), kLeast); });
    works([=] { f(Tensor({kHuge, 0}), -1); });
    works([=] { f(Tensor({kHuge, 0}), 0); });
    works([=] { f(Tensor::full({2, 3}, kNan), -1); });
    works([=] { f(Tensor::full({2, 3}, -kInfinity), -1); });
    works([=] { sum(f(leaf({3, 0}), -1)).backward(); });
    works([=] { sum(f(leaf({kHuge, 0}), -1)).backward(); });
    works([=] { sum(f(leaf({0, 3}), 0)).backward(); });
  }
  fails({"cross_entropy", "undefined"}, [] { cross_entropy(ones({2, 3}), Tensor()); });
  fails({"cross_entropy", "label"}, [] { cross_entropy(ones({1, 0}), integers({1})); });
  fails({"label 1"}, [] { cross_entropy(ones({1, 1}), integers({1})); });
  fails({"label"}, [] { cross_entropy(ones({1, 3}), Tensor::full({1}, 1e30, DType::int64)); });
  fails({"label"}, [] { cross_entropy(ones({1, 3}), Tensor::full({1}, -1e30, DType::int64)); });
  fails({"cross_entropy", "[1]"}, [] { cross_entropy(Tensor({kHuge, 0}), integers({1})); });
  works([] {
    cross_entropy(Tensor::full({2, 3}, kNan).set_requires_grad(), integers({2})).backward();
  });
}

// Once with the image and the weight as leaves, and back.
Tensor convolved(Shape image, Shape weight, const Conv2dOptions& options) {
  const Tensor y = conv2d(leaf(std::move(image)), leaf(std::move(weight)), {}, options);
  sum(y).backward();
  return y;
}

void conv2d_rows() {
  for (const Index stride : {Index{5}, Index{1} << 20, kHuge, Index{1} << 62, kMost})
    works([=] {
      for (const Index padding : {0, 1}) {
        const Tensor y =
            convolved({2, 4, 3, 2}, {3, 3, 2, 5}, {.stride = stride, .padding = padding});
        check(y.shape() == Shape{2, 1, 1, 5}, y.shape());
      }
    });
  works([] { convolved({1, 2, 2, 4}, {1, 1, 1, 4}, {.stride = kHuge, .groups = 4}); });
  works([] { convolved({1, 2, 9, 4}, {1, 1, 4, 4}, {.stride = 7}); });
  works([] {
    const Index far = Index{1} << 16;
    convolved({1, 1, 1, 1}, {1, 1, 1, 1}, {.stride = far, .padding = far});
  });
  works([] {
    const Index far = Index{1} << 18;
    conv2d(ones({1, 1, 1, 1}), ones({1, 1, 1, 1}), {}, {.stride = far, .padding = far});
  });
  for (const Index padding : {Index{1} << 21, kHuge, Index{1} << 61, Index{1} << 62, kMost})
    fails({"conv2d", "padding " + std::to_string(padding)}, [=] {
      convolved({1, 4, 4, 1}, {3, 3, 1, 1}, {.stride = padding, .padding = padding});
    });
  fails({"out of memory"}, [] {
    convolved({1, 4, 4, 1}, {3, 3, 1, 1}, {.padding = Index{1} << 20});
  });
  fails({"out of memory"}, [] { convolved({1, 4, 4, 1}, {3, 3, 1, kHuge}, {}); });
  fails({"conv2d", "stride"}, [] { convolved({1, 4, 4, 1}, {3, 3, 1, 1}, {.stride = kLeast}); });
  fails({"conv2d", "padding"}, [] { convolved({1, 4, 4, 1}, {3, 3, 1, 1}, {.padding = kLeast}); });
  for (const Index groups : {Index{5}, kHuge, Index{1} << 62, kMost, Index{-1}, kLeast})
    fails({"conv2d", "groups " + std::to_string(groups)}, [=] {
      convolved({1, 4, 4, 4}, {1, 1, 4, 4}, {.groups = groups});
    });
  works([] { convolved({1, 4, 4, 0}, {1, 1, 0, 0}, {.groups = kHuge}); });
  fails({"groups 32"}, [] { convolved({1, 4, 4, 4}, {1, 1, Index{1} << 59, 0}, {.groups = 32}); });
  fails({"conv2d", "groups"}, [] { convolved({1, 4, 4, 0}, {1, 1, 0, 4}, {.groups = kHuge}); });
  fails({"elements"}, [] { convolved({0, kMost, 1, 1}, {1, 1, 1, 1}, {.padding = 1}); });
  fails({"conv2d", "stride 0"}, [] {
    conv2d(Tensor({0, kHuge, 1, 1}), ones({1, 1, 1, 1}), ones({1}), {.stride = 0});
  });
  works([] { conv2d(Tensor({0, kHuge, 1, 1}), ones({1, 1, 1, 1}), ones({1})); });
  works([] { convolved({1, 4, 4, 0}, {3, 3, 0, 2}, {}); });
  works([] { convolved({1, 4, 4, 2}, {3, 3, 2, 0}, {}); });
  works([] { convolved({0, 4, 4, 2}, {3, 3, 2, 2}, {.stride = 2, .padding = 2}); });
  works([] { convolved({1, 0, 4, 2}, {1, 1, 2, 2}, {.padding = 1}); });
  works([] { convolved({1, 1, 1, 1}, {5, 5, 1, 1}, {.stride = 3, .padding = 40}); });
  works([] { convolved({1, 3, 3, 4}, {3, 3, 1, 8}, {.stride = 2, .padding = 9, .groups = 4}); });
  fails({"conv2d", "int64"}, [] { conv2d(ones({1, 2, 2, 1}), ones({1, 1, 1, 2}), integers({2})); });
  works([] {
    const Tensor x = leaf({1, 1, 1, 1});
    sum(conv2d(x, x)).backward();
  });
}

void pool_rows() {
  for (const Index stride : {Index{1} << 20, kHuge, Index{1} << 62, kMost})
    works([=] { sum(max_pool2d(leaf({1, 4, 4, 1}), 2, stride, 1)).backward(); });
  fails({"max_pool2d", "kernel"}, [] { max_pool2d(ones({1, 4, 4, 1}), kMost, 1); });
  fails({"max_pool2d", "kernel"}, [] { max_pool2d(ones({1, 4, 4, 1}), kLeast, 1); });
  fails({"max_pool2d", "stride"}, [] { max_pool2d(ones({1, 4, 4, 1}), 2, kLeast); });
  fails({"max_pool2d", "padding"}, [] { max_pool2d(ones({1, 4, 4, 1}), 2, 1, kMost); });
  fails({"max_pool2d", "padding"}, [] { max_pool2d(ones({1, 4, 4, 1}), 2, 1, kLeast); });
  fails({"max_pool2d", "no channels"}, [] { max_pool2d(Tensor({kHuge, 2, 2, 0}), 2, 2); });
  works([] { max_pool2d(Tensor({0, kHuge, 2, 4}), 2, 2); });
  fails({"elements"}, [] { max_pool2d(Tensor({0, kMost, 1, 1}), 2, 1, 1); });
  works([] {
    sum(max_pool2d(Tensor::full({1, 3, 3, 2}, kNan).set_requires_grad(), 3, 1, 1)).backward();
  });
  works([] {
    sum(max_pool2d(Tensor::full({1, 3, 3, 2}, -kInfinity).set_requires_grad(), 3, 1, 1)).backward();
  });
  works([] { global_average_pool(Tensor({0, kHuge, 2, 1})); });
  works([] { global_average_pool(ones({1, 0, 2, 1})); });
  fails({"max"}, [] { global_max_pool(ones({1, 0, 2, 1})); });
}

Tensor normalized(const BatchNormOptions& options) {
  return batch_norm(ones({4, 2}), ones({2}), ones({2}), {ones({2}), ones({2})}, options);
}

void norm_rows() {
  for (const bool fused : {true, false})
    for (const double eps : {-1e-5, -1.0, -kInfinity, kInfinity, kNan}) {
      fails({"batch_norm", "eps"}, [=] {
        set_fusion(fused);
        normalized({.eps = eps});
      });
      fails({"batch_norm", "eps"}, [=] {
        set_fusion(fused);
        normalized({.training = false, .eps = eps});
      });
      fails({"batch_norm", "eps"}, [=] {
        set_fusion(fused);
        batch_norm_max_pool2d(ones({1, 4, 4, 2}), ones({2}), ones({2}), {ones({2}), ones({2})}, 2,
                              2, 0, {.eps = eps});
      });
      fails({"batch_norm", "eps"}, [=] {
        set_fusion(fused);
        const CbamParameters parameters{ones({2}), ones({2}), ones({1, 1, 2, 1}),
                                        ones({1, 1, 1, 2}), ones({7, 7, 2, 1})};
        batch_norm_cbam(ones({1, 4, 4, 2}), ones({1, 4, 4, 2}), parameters, {ones({2}), ones({2})},
                        {.eps = eps});
      });
    }
  for (const double momentum : {-0.1, 1.5, kInfinity, kNan})
    fails({"batch_norm", "momentum"}, [=] { normalized({.momentum = momentum}); });
  for (const double eps : {-1e-5, -kInfinity, kInfinity, kNan})
    fails({"layer_norm", "eps"}, [=] { layer_norm(ones({2, 3}), ones({3}), ones({3}), eps); });
  works([] { normalized({.momentum = 0, .eps = 0}); });
  works([] { normalized({.momentum = 1}); });
  works([] { layer_norm(ones({2, 3}), ones({3}), ones({3}), 0); });
  works([] {
    Tensor same = ones({2});
    batch_norm(ones({4, 2}), same, same, {same, same});
  });
  fails({"batch_norm", "[4, 0]"}, [] {
    batch_norm(ones({4, 0}), ones({0}), ones({0}), {ones({0}), ones({0})});
  });
  works([] {
    batch_norm(ones({4, 0}), ones({0}), ones({0}), {ones({0}), ones({0})}, {.training = false});
  });
  works([] {
    batch_norm(Tensor({kHuge, 0}), ones({0}), ones({0}), {ones({0}), ones({0})},
               {.training = false});
  });
  works([] {
    sum(batch_norm(leaf({3, 2}), leaf({2}), leaf({2}), {leaf({2}), leaf({2})}, {.training = false}))
        .backward();
  });
  fails({"batch_norm"}, [] {
    batch_norm(Tensor({kHuge, 0}), ones({0}), ones({0}), {ones({0}), ones({0})});
  });
  works([] { layer_norm(Tensor({0, kHuge}).with_shape({0, 3}), ones({3}), ones({3})); });
  works([] { sum(layer_norm(leaf({0, 3}), leaf({3}), leaf({3}))).backward(); });
  works([] { layer_norm(Tensor::full({2, 3}, kNan), ones({3}), ones({3})); });
}

void dropout_rows() {
  for (const double p : {-1e-9, 1.0, 2.0, -kInfinity, kInfinity, kNan}) {
    fails({"dropout", "p is"}, [=] { dropout(ones({2}), p); });
    fails({"ropout", "p is"}, [=] { Dropout layer(p); });
  }
  works([] { dropout(ones({0}), 0.5); });
  works([] { dropout(ones({3}), 0.9999999999999999); });
}

// ---- autograd/check.h, autograd/backend.h, autograd/random.h ----

void rest_of_autograd_rows() {
  fails({"outer.inner: x"}, [] {
    ErrorScope a("outer"), b(""), c("inner");
    fail("x");
  });
  fails({"int64"}, [] { backend(Device::cpu, DType::int64); });
  fails({"CUDA"}, [] { backend(Device::cuda, DType::float32); });
  fails({"undefined"}, [] { backend_for(Tensor()); });
  fails({"out of memory"}, [] { allocator(Device::cpu).allocate(-1); });
  fails({"out of memory"}, [] { allocator(Device::cpu).allocate(kMost); });
  fails({"CUDA"}, [] { allocator(Device::cuda).allocate(1); });
  fails({"[-1]"}, [] { element_count({-1}); });
  fails({"[0, -1]"}, [] { element_count({0, -1}); });
  fails({"-1]"}, [] { element_count({kLeast, -1}); });
  fails({"more elements"}, [] { element_count(Shape(64, 2)); });
  works([] {
    manual_seed(std::numeric_limits<std::uint64_t>::max());
    Tensor::randn({5});
  });
}

// ---- layers ----

void module_rows() {
  fails({"add_module", "\"a\"", "itself"}, [] {
    Part a;
    a.add_module("a", a);
  });
  fails({"add_module", "itself"}, [] {
    Part a;
    a.add_module("", a);
  });
  fails({"add_module", "\"a\"", "itself"}, [] {
    Part a, b;
    a.add_module("b", b);
    b.add_module("a", a);
  });
  fails({"add_module", "itself"}, [] {
    Part a, b, c;
    a.add_module("b", b);
    b.add_module("", c);
    c.add_module("a", a);
  });
  works([] {  // one part in two places
    Part a, b, c, shared;
    b.add_module("shared", shared);
    c.add_module("shared", shared);
    a.add_module("b", b);
    a.add_module("c", c);
    a.parameters();
  });
  const auto twice = [](auto add_first, auto add_second) {
    return [=] {
      Part part, first, second;
      Tensor x = ones({2}), y = ones({3});
      add_first(part, first, x);
      add_second(part, second, y);
    };
  };
  const auto parameter = [](Part& part, Part&, Tensor& x) { part.add_parameter("a", x); };
  const auto buffer = [](Part& part, Part&, Tensor& x) { part.add_buffer("a", x); };
  const auto module = [](Part& part, Part& other, Tensor&) { part.add_module("a", other); };
  fails({"add_parameter", "\"a\""}, twice(parameter, parameter));
  fails({"add_buffer", "\"a\""}, twice(parameter, buffer));
  fails({"add_module", "\"a\""}, twice(parameter, module));
  fails({"add_parameter", "\"a\""}, twice(buffer, parameter));
  fails({"add_buffer", "\"a\""}, twice(buffer, buffer));
  fails({"add_module", "\"a\""}, twice(buffer, module));
  fails({"add_parameter", "\"a\""}, twice(module, parameter));
  fails({"add_buffer", "\"a\""}, twice(module, buffer));
  fails({"add_module", "\"a\""}, twice(module, module));
  const auto merged = [](auto use) {  // the names of a part without a name meet those beside it
    return [=] {
      Part part, child;
      Tensor x = ones({2}), y = ones({3});
      part.add_parameter("a", x);
      part.add_module("", child);
      child.add_parameter("a", y);
      use(part);
    };
  };
  fails({"\"a\"", "two"}, merged([](Part& part) { part.state_dict(); }));
  fails({"\"a\"", "two"}, merged([](Part& part) { part.load_state_dict({{"a", ones({2})}}); }));
  for (const char* name : {"", ".", "a.b", ".a", "a."})
    fails({"add_parameter", std::string("\"") + name + "\""}, [=] {
      Part part;
      Tensor x = ones({2});
      part.add_parameter(name, x);
    });
  fails({"add_buffer", "\"\""}, [] { Part().add_buffer("", ones({2})); });
  fails({"add_buffer", "\"a.b\""}, [] { Part().add_buffer("a.b", ones({2})); });
  fails({"add_module", "\"a.b\""}, [] {
    Part part, child;
    part.add_module("a.b", child);
  });
  works([] {
    Part part, a, b;
    part.add_module("", a);
    part.add_module("", b);
    part.state_dict();
  });
  fails({"add_parameter", "\"a\"", "undefined"}, [] {
    Tensor x;
    Part().add_parameter("a", x);
  });
  fails({"add_buffer", "\"a\"", "undefined"}, [] { Part().add_buffer("a", Tensor()); });
  fails({"int64"}, [] {
    Tensor x = integers({2});
    Part().add_parameter("a", x);
  });
  fails({"multiply"}, [] {
    Tensor x = leaf({2}) * 2.0;
    Part().add_parameter("a", x);
  });
  for (const std::vector<Index>& axes :
       {std::vector<Index>{0}, {0, 0}, {0, 2}, {-1, 0}, {0, kMost}, {0, 1, 2}})
    fails({"add_parameter", "\"a\"", "axes", "[2, 3]"}, [=] {
      Part part;
      Tensor x = ones({2, 3});
      part.add_parameter("a", x, axes);
      part.load_state_dict(part.state_dict());
    });

  fails({"missing: weight", "missing: bias"}, [] { Linear(2, 3).load_state_dict({}); });
  fails({"weight", "undefined"}, [] {
    Linear(2, 3).load_state_dict({{"weight", Tensor()}, {"bias", ones({3})}});
  });
  fails({"other", "undefined"}, [] {
    Linear linear(2, 3);
    StateDict state = linear.state_dict();
    state["other"] = Tensor();
    linear.load_state_dict(state);
  });
  fails({"type: weight", "int64"}, [] {
    Linear linear(2, 3);
    StateDict state = linear.state_dict();
    state["weight"] = integers({3, 2});
    linear.load_state_dict(state);
  });
  works([] {
    Linear linear(2, 3);
    StateDict state = linear.state_dict();
    state["weight"] = Tensor::ones({3, 2}, DType::float64);
    linear.load_state_dict(state);
  });
  fails({"CUDA"}, [] { Linear(2, 3).to(Device::cuda); });
  fails({"int64"}, [] { Linear(2, 3).to(DType::int64); });
  fails({"undefined"}, [] {
    Linear linear(2, 3);
    linear.weight = Tensor();
    linear(ones({1, 2}));
  });
  works([] { std::ostringstream() << Part() << Sequential() << Dropout(0.5); });
  works([] { Part().load_state_dict({}); });
}

void sequential_rows() {
  fails({"Sequential", "0"}, [] { Sequential()[0]; });
  fails({"Sequential"}, [] { Sequential()[static_cast<std::size_t>(-1)]; });
  fails({"Sequential", "1"}, [] {
    Sequential net;
    net.add<ReLU>();
    net[1](ones({2}));
  });
  works([] { check(Sequential()(ones({2})).numel() == 2, "not its input"); });
  fails({"Linear"}, [] {
    Sequential net;
    net.add<Linear>(2, 0);
  });
  works([] {
    Sequential net;
    try {
      net.add<Linear>(2, 0);
    } catch (const Error&) {
    }
    net.add<Linear>(2, 3);
    check(net.size() == 1 && net.parameters().size() == 2, "a part that failed is left");
  });
  fails({"0: relu", "undefined"}, [] {
    Sequential net;
    net.add<ReLU>();
    net(Tensor());
  });
}

void layer_rows() {
  for (const Index size : {Index{0}, Index{-1}, kLeast}) {
    fails({"Linear", std::to_string(size)}, [=] { Linear(size, 2); });
    fails({"Linear", std::to_string(size)}, [=] { Linear(2, size); });
    fails({"Conv2d", std::to_string(size)}, [=] { Conv2d(size, 2, 3); });
    fails({"Conv2d", std::to_string(size)}, [=] { Conv2d(2, size, 3); });
    fails({"Conv2d", std::to_string(size)}, [=] { Conv2d(2, 2, size); });
    fails({"Conv2d", std::to_string(size)}, [=] { Conv2d(2, 2, 3, {.stride = size}); });
    fails({"Conv2d", std::to_string(size)}, [=] { Conv2d(2, 2, 3, {.groups = size}); });
    fails({"BatchNorm2d", std::to_string(size)}, [=] { BatchNorm2d layer(size); });
    fails({"LayerNorm", std::to_string(size)}, [=] { LayerNorm layer(size); });
    fails({"MultiHeadAttention", std::to_string(size)}, [=] { MultiHeadAttention(size, 1); });
    fails({"MultiHeadAttention", std::to_string(size)}, [=] { MultiHeadAttention(8, size); });
    fails({"MultiHeadAttention", std::to_string(size)}, [=] { MultiHeadAttention(size, size); });
    fails({"ChannelAttention", std::to_string(size)}, [=] { ChannelAttention layer(size); });
    fails({"ChannelAttention", std::to_string(size)}, [=] { ChannelAttention(16, size); });
    fails({"Conv2d", std::to_string(size)}, [=] { PatchExtraction layer(size); });
    fails({"Conv2d", std::to_string(size)}, [=] { BasicBlock(size, 16, 1); });
    fails({"Conv2d", std::to_string(size)}, [=] { BasicBlock(16, size, 1); });
    fails({"Conv2d", std::to_string(size)}, [=] { BasicBlock(16, 16, size); });
  }
  fails({"Conv2d", "padding -1"}, [] { Conv2d(2, 2, 3, {.padding = -1}); });
  fails({"ResNet", "0 stages"}, [] { ResNet layer(0); });
  fails({"ResNet", "-1 stages"}, [] { ResNet layer(-1); });
  fails({"MultiHeadAttention", "16 heads"}, [] { MultiHeadAttention(8, 16); });
  for (const Index size : {kHuge, Index{1} << 61, kMost}) {
    fails({"more elements"}, [=] { Linear(size, size); });
    fails({""}, [=] { Linear(1, size); });
    fails({"more elements"}, [=] { Conv2d(size, size, 1); });
    fails({"more elements"}, [=] { Conv2d(1, 1, size); });
    fails({"more elements"}, [=] { Conv2d(size, 1, size); });
    fails({"Conv2d", "groups"}, [=] { Conv2d(2, 2, 3, {.groups = size}); });
    fails({""}, [=] { BatchNorm2d layer(size); });
    fails({""}, [=] { LayerNorm layer(size); });
    fails({"more elements"}, [=] { MultiHeadAttention(size, 1); });
    fails({""}, [=] { ChannelAttention layer(size); });
    fails({""}, [=] { PatchExtraction layer(size); });
    fails({""}, [=] { BasicBlock(size, 16, 1); });
    works([=] { BasicBlock(16, 16, size)(ones({2, 4, 4, 16})); });
    works([=] { Conv2d(2, 2, 3, {.stride = size})(ones({1, 4, 4, 2})); });
    works([=] { MaxPool2d(2, size)(ones({1, 4, 4, 2})); });
    fails({"padding"}, [=] { Conv2d(2, 2, 3, {.padding = size})(ones({1, 4, 4, 2})); });
  }
  fails({"kernel 0"}, [] { MaxPool2d(0, 1)(ones({1, 4, 4, 2})); });
  fails({"stride 0"}, [] { MaxPool2d(2, 0)(ones({1, 4, 4, 2})); });
  fails({"padding -1"}, [] { MaxPool2d(2, 1, -1)(ones({1, 4, 4, 2})); });

  fails({"undefined"}, [] { Linear(2, 3)(Tensor()); });
  fails({"linear", "[]"}, [] { Linear(2, 3)(ones({})); });
  fails({"int64"}, [] { Linear(2, 3)(integers({1, 2})); });
  fails({"matmul", "[2]"}, [] { Linear(2, 3)(ones({2})); });
  works([] { Linear(2, 3)(ones({0, 2})); });
  fails({"undefined"}, [] { MultiHeadAttention(8, 2)(Tensor()); });
  fails({"int64"}, [] { MultiHeadAttention(8, 2)(integers({1, 2, 8})); });
  works([] { sum(MultiHeadAttention(8, 2)(ones({1, 0, 8}))).backward(); });
  works([] { sum(MultiHeadAttention(8, 2)(ones({0, 4, 8}))).backward(); });
  fails({"batch_norm", "more than one value"}, [] { BatchNorm2d(2)(ones({1, 2})); });
  fails({"kernel 0"}, [] { BatchNorm2d(2).with_max_pool(ones({1, 4, 4, 2}), 0, 0, 0); });
  fails({"layer_norm", "axis"}, [] { LayerNorm(2)(ones({})); });
  fails({"conv1"}, [] { ResNet(1)(ones({1, 0, 0, 3})); });
  fails({"bn1"}, [] { ResNet(1)(ones({0, 32, 32, 3})); });
  fails({"depthwise_conv1", "fit"}, [] { PatchExtraction(4)(ones({1, 1, 1, 4})); });
  fails({"max"}, [] { SpatialAttention()(ones({1, 4, 4, 0})); });
  fails({"bound"}, [] { init::uniform({2}, kNan); });
  fails({"bound"}, [] { init::fan_in_uniform({2}, 0); });
  fails({"bound"}, [] { init::fan_in_uniform({2}, -1); });
  fails({"bound"}, [] { init::xavier_uniform({2}, 0, 0); });
}

// ---- optim ----

void optimizer_rows() {
  const auto parameters = [] { return std::vector<Tensor>{leaf({2})}; };
  for (const double wrong : {-0.1, -kInfinity, kInfinity, kNan}) {
    fails({"optimizer", "lr"}, [=] { Sgd(parameters(), {.lr = wrong}); });
    fails({"Sgd", "momentum"}, [=] { Sgd(parameters(), {.momentum = wrong}); });
    fails({"Sgd", "weight_decay"}, [=] { Sgd(parameters(), {.weight_decay = wrong}); });
    fails({"optimizer", "lr"}, [=] { AdamW(parameters(), {.lr = wrong}); });
    fails({"AdamW", "beta1"}, [=] { AdamW(parameters(), {.beta1 = wrong}); });
    fails({"AdamW", "beta2"}, [=] { AdamW(parameters(), {.beta2 = wrong}); });
    fails({"AdamW", "eps"}, [=] { AdamW(parameters(), {.eps = wrong}); });
    fails({"AdamW", "weight_decay"}, [=] { AdamW(parameters(), {.weight_decay = wrong}); });
  }
  fails({"AdamW", "beta1"}, [=] { AdamW(parameters(), {.beta1 = 1}); });
  fails({"AdamW", "beta2"}, [=] { AdamW(parameters(), {.beta2 = 1}); });
  fails({"AdamW", "beta2"}, [=] { AdamW(parameters(), {.beta2 = 999}); });
  works([=] { Sgd(parameters(), {.momentum = 1}).step(); });
  works([=] { Sgd(parameters(), {.lr = 0}).step(); });
  works([=] { AdamW(parameters(), {.lr = 0, .beta1 = 0, .beta2 = 0, .weight_decay = 0}).step(); });
  fails({"optimizer", "parameter 0", "undefined"}, [] { Sgd({Tensor()}); });
  fails({"optimizer", "parameter 1", "undefined"}, [] { AdamW({leaf({2}), Tensor()}); });
  fails({"optimizer", "int64"}, [] { Sgd({integers({2})}); });
  fails({"optimizer", "int64"}, [] { AdamW({integers({2})}); });
  fails({"optimizer", "parameter 1", "twice"}, [] {
    Tensor x = leaf({2});
    Sgd({x, x});
  });
  works([] { Sgd({}).step(); });
  works([] { AdamW({}).step(); });
  works([] { AdamW({ones({2})}).step(); });
  works([] { AdamW({leaf({0})}).step(); });
  works([] {
    Tensor x = leaf({0});
    AdamW adam({x});
    sum(x).backward();
    adam.step();
  });
  works([] {  // steps in the middle of what is recorded
    Tensor x = leaf({2});
    Sgd sgd({x}, {.momentum = 0.5});
    sum(x).backward();
    sgd.step();
    sgd.zero_grad();
    sgd.step();
    sgd.zero_grad();
  });
  works([] {  // a gradient that is the parameter itself
    Tensor x = leaf({2});
    Sgd sgd({x}, {.lr = 0.5});
    x.set_grad(x);
    sgd.step();
    check(x.to_vector<float>() == std::vector<float>{0.5, 0.5}, "x is ", x);
  });
  fails({"optimizer", "0 tensors"}, [=] { AdamW(parameters()).load_state({}); });
  fails({"lacks 0.m"}, [=] {
    AdamW adam(parameters());
    auto state = adam.state();
    state["0.m"] = Tensor();
    adam.load_state(state);
  });
  fails({"AdamW", "step is -1"}, [=] {
    AdamW adam(parameters());
    auto state = adam.state();
    state["step"] = Tensor::full(state["step"].shape(), -1, DType::int64);
    adam.load_state(state);
  });
  works([=] {
    AdamW adam(parameters());
    adam.load_state(adam.state());
  });
  fails({"schedule", "step -1"}, [] { cosine_schedule(-1, 10, 1); });
  works([] { check(cosine_schedule(1, -10, 1) == 0, "not the floor"); });
  fails({"schedule", "step -9223372036854775808"},
        [] { warmup_cosine_schedule(kLeast, 0, 10, 1); });
  fails({"schedule", "warmup -1"}, [] { warmup_cosine_schedule(0, -1, 10, 1); });
  fails({"schedule", "steps"}, [] { warmup_cosine_schedule(0, 0, kLeast, 1); });
  works([] { check(cosine_schedule(0, 0, 1) == 0, "not the floor"); });
  works([] { cosine_schedule(kMost, kMost, 1); });
  works([] { warmup_cosine_schedule(kMost, 1, kMost, 1); });
  works([] { warmup_cosine_schedule(0, kMost, 10, 1); });
  works([] { warmup_cosine_schedule(kMost - 1, kMost, 10, 1); });
}

// ---- data ----

std::vector<LabeledImage> faces() {
  return std::vector<LabeledImage>(5, {"/no such image.jpg", 0});
}

void data_loader_rows() {
  for (const Index size : {Index{0}, Index{-1}, kLeast}) {
    fails({"DataLoader", "batch_size"}, [=] { DataLoader(faces(), {.batch_size = size}); });
    fails({"DataLoader", std::to_string(size)}, [=] { DataLoader(faces(), {.height = size}); });
    fails({"DataLoader", std::to_string(size)}, [=] { DataLoader(faces(), {.width = size}); });
    fails({"DataLoader", "batches_ahead"}, [=] { DataLoader(faces(), {.batches_ahead = size}); });
  }
  for (const Index size : {kHuge, Index{1} << 62, kMost}) {
    fails({"DataLoader"}, [=] { DataLoader(faces(), {.height = size, .width = size}); });
    fails({"DataLoader"}, [=] { DataLoader(faces(), {.height = size, .width = 1}); });
    works([=] {
      DataLoader loader(faces(), {.batch_size = size, .height = 2, .width = 2, .workers = 0});
      check(loader.batch_count() == 1, loader.batch_count(), " batches");
      loader.start_epoch(0, 1);
      check(!loader.next(), "a batch beyond the end");
    });
    fails({"no such image"}, [=] {
      DataLoader loader(faces(),
                        {.batch_size = size, .height = 2, .width = 2, .batches_ahead = size});
      loader.start_epoch(0);
      loader.next();
    });
  }
  fails({"DataLoader", "workers is -1"}, [] { DataLoader(faces(), {.workers = -1}); });
  fails({"workers"}, [] { DataLoader(faces(), {.workers = std::numeric_limits<int>::max()}); });
  fails({"workers"}, [] { DataLoader(faces(), {.workers = std::numeric_limits<int>::min()}); });
  works([] {
    DataLoader none({}, {});
    check(none.batch_count() == 0 && !none.next(), "batches of nothing");
    none.start_epoch(0);
    check(!none.next(), "a batch of nothing");
  });
  fails({"DataLoader", "batch 1"}, [] { DataLoader({}, {}).start_epoch(0, 1); });
  fails({"DataLoader", "start_epoch"}, [] { DataLoader(faces(), {}).next(); });
  fails({"DataLoader", "batch -1"}, [] { DataLoader(faces(), {}).start_epoch(0, -1); });
  fails({"DataLoader", "batch"}, [] { DataLoader(faces(), {}).start_epoch(0, kMost); });
  fails({"DataLoader", "batch"}, [] { DataLoader(faces(), {}).start_epoch(0, kLeast); });
  works([] { DataLoader(faces(), {.memory_bytes = kLeast}).start_epoch(~std::uint64_t{0}); });
  works([] {
    DataLoader loader(faces(), {.height = 8, .width = 8});
    loader.start_epoch(0);
    loader.start_epoch(0);
  });
}

Image grey_image(Index height, Index width) {
  return {height, width,
          std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * 3), 99)};
}

void transform_rows() {
  for (const double wrong : {1.0, 2.0, -1e-9, -1.0, kInfinity, -kInfinity, kNan, 1e300})
    fails({"draw_augmentation", "[0, 1)"}, [=] { draw_augmentation([=] { return wrong; }); });
  fails({"draw_augmentation", "source"}, [] { draw_augmentation(nullptr); });
  works([] { draw_augmentation([] { return 0.0; }); });
  works([] { draw_augmentation([] { return 1 - 0x1p-53; }); });
  for (const double wrong : {-0.1, kInfinity, kNan}) {
    const auto half = [] { return 0.5; };
    fails({"flip_probability"}, [=] { draw_augmentation(half, {.flip_probability = wrong}); });
    fails({"degrees"}, [=] { draw_augmentation(half, {.degrees = wrong}); });
    fails({"brightness"}, [=] { draw_augmentation(half, {.brightness = wrong}); });
    fails({"contrast"}, [=] { draw_augmentation(half, {.contrast = wrong}); });
    fails({"saturation"}, [=] { draw_augmentation(half, {.saturation = wrong}); });
    fails({"hue"}, [=] { draw_augmentation(half, {.hue = wrong}); });
  }
  fails({"hue"}, [] { draw_augmentation([] { return 0.5; }, {.hue = 0.6}); });
  fails({"flip_probability"},
        [] { draw_augmentation([] { return 0.5; }, {.flip_probability = 1.1}); });

  // Images whose pixels are not as many as their sizes say; 2^32 x 2^32 is 0 in 64 bits.
  const Index side = Index{1} << 32;
  for (const Image& image : {Image{side, side, {}}, Image{2, 2, {}}, Image{-1, -1, {0, 0, 0}},
                             Image{kMost, 1, {}}, Image{1, kMost, {}}, Image{kLeast, 2, {}},
                             Image{0, 0, {0, 0, 0}}, Image{Index{1} << 62, 4, {}}}) {
    const std::string size = std::to_string(image.height) + " x " + std::to_string(image.width);
    fails({"resize", size}, [=] { resize(image, 2, 2); });
    fails({"flip_horizontally", size}, [=] {
      Image copy = image;
      flip_horizontally(copy);
    });
    fails({"rotate", size}, [=] { rotate(image, 10); });
    fails({"adjust_contrast", size}, [=] {
      Image copy = image;
      adjust_contrast(copy, 2);
    });
    fails({"adjust_saturation", size}, [=] {
      Image copy = image;
      adjust_saturation(copy, 2);
    });
    fails({"adjust_hue", size}, [=] {
      Image copy = image;
      adjust_hue(copy, 0.1);
    });
    fails({size}, [=] { augment(image, {}); });
    fails({"image_to_floats", size}, [=] {
      float out[12];
      image_to_floats(image, out);
    });
    fails({"never.png", size}, [=] { write_png("never.png", image); });
    fails({"never.jpg", size}, [=] { write_jpeg("never.jpg", image); });
  }
  fails({"image_to_floats", "null"}, [] { image_to_floats(grey_image(2, 2), nullptr); });
  works([] { image_to_floats({}, nullptr); });
  for (const Image& image : {Image{}, Image{0, 5, {}}, Image{5, 0, {}}})
    works([=] {
      Image copy = image;
      flip_horizontally(copy);
      adjust_brightness(copy, 2);
      adjust_contrast(copy, 2);
      adjust_saturation(copy, 2);
      adjust_hue(copy, 0.1);
      augment(copy, {.flip = true, .degrees = 5});
    });
  fails({"resize", "no pixels"}, [] { resize({}, 2, 2); });
  for (const Index size : {Index{0}, Index{-1}, kLeast, kHuge, kMost}) {
    fails({"resize", std::to_string(size)}, [=] { resize(grey_image(2, 2), size, 2); });
    fails({"resize", std::to_string(size)}, [=] { resize(grey_image(2, 2), 2, size); });
  }
  works([] { resize(grey_image(1, 1), 1, 1); });
  works([] { resize(grey_image(1, 3000), 2, 1); });
  for (const double wrong : {kInfinity, -kInfinity, kNan}) {
    const auto factor = static_cast<float>(wrong);
    fails({"rotate"}, [=] { rotate(grey_image(2, 2), wrong); });
    fails({"adjust_brightness"}, [=] {
      Image x = grey_image(2, 2);
      adjust_brightness(x, factor);
    });
    fails({"adjust_contrast"}, [=] {
      Image x = grey_image(2, 2);
      adjust_contrast(x, factor);
    });
    fails({"adjust_saturation"}, [=] {
      Image x = grey_image(2, 2);
      adjust_saturation(x, factor);
    });
    fails({"adjust_hue"}, [=] {
      Image x = grey_image(2, 2);
      adjust_hue(x, wrong);
    });
  }
  works([] { rotate(grey_image(2, 2), 1e308); });
  works([] {
    Image x = grey_image(2, 2);
    for (const float factor : {3e38f, -3e38f}) {
      adjust_brightness(x, factor);
      adjust_contrast(x, factor);
      adjust_saturation(x, factor);
    }
  });
}

void file_rows() {
  fails({"cannot read"}, [] { read_file(""); });
  fails({"cannot read"}, [] { read_file(std::string("/\0a", 3)); });
  fails({"folder"}, [] { read_image("/"); });
  fails({"x", "empty"}, [] { decode_image({}, "x"); });
  fails({"cannot write"}, [] { write_file("/no such folder/x", "text"); });
  fails({"cannot write"}, [] { write_file("/", "text"); });
  fails({"cannot create"}, [] { write_folder("", [](const std::string&) {}); });
  fails({"quality 0"}, [] { write_jpeg("never.jpg", grey_image(2, 2), 0); });
  fails({"quality 101"}, [] { write_jpeg("never.jpg", grey_image(2, 2), 101); });
  fails({"cannot write", "0 x 0"}, [] { write_jpeg("never.jpg", {}); });
  fails({"\"a\"", "undefined"}, [] { write_safetensors("never", {{{"a", Tensor()}}, {}}); });
  fails({"reserved"}, [] { write_safetensors("never", {{{"__metadata__", ones({})}}, {}}); });
  fails({"UTF-8"}, [] { write_safetensors("never", {{{"\xff", ones({})}}, {}}); });
  fails({""}, [] { find_faces(""); });
  fails({"/no such folder"}, [] { find_faces("/no such folder"); });
  fails({""}, [] { find_faces(std::string(100000, 'a')); });
}

void picture_rows() {
  fails({"draw_confusion_matrix", "0"}, [] { draw_confusion_matrix({}, {}); });
  fails({"draw_confusion_matrix"}, [] { draw_confusion_matrix({{1}}, {}); });
  fails({"draw_confusion_matrix", "2 counts"}, [] { draw_confusion_matrix({{1, 2}}, {"a"}); });
  fails({"draw_confusion_matrix", "negative"}, [] { draw_confusion_matrix({{-1}}, {"a"}); });
  fails({"draw_confusion_matrix"}, [] {
    draw_confusion_matrix({{kMost, kMost}, {kMost, 1}}, {"a", "b"});
  });
  fails({"picture", "names"}, [] { draw_confusion_matrix({{1}}, {std::string(10'000'000, 'a')}); });
  works([] { draw_confusion_matrix({{0}}, {""}); });
  works([] { draw_confusion_matrix({{1}}, {"\xff\x01\x7f"}); });
  works([] { draw_curves("", {}); });
  works([] { draw_curves(std::string(10000, 'a'), {{std::string(10000, 'b'), {1, 2}}}); });
  works([] { draw_curves("\xff", {{"\xff", {}}}); });
  for (const double value : {0.0, -0.0, 1e29, -1e29, 1e300, 1e-300, 5e-324, kNan, kInfinity})
    works([=] {
      draw_curves("a", {{"b", {value}}});
      draw_curves("a", {{"b", {value, value, -value}}, {"c", {1, value}}});
    });
  works([] { draw_curves("a", {{"b", {1e29, 1e29 * (1 + 1e-15)}}}); });
  works([] { draw_curves("a", {{"b", {1, 1 + 1e-15, -1e-30}}}); });
  works([] { draw_curves("a", {{"b", std::vector<double>(20000, 1)}}); });
  works([] { draw_curves("a", std::vector<Curve>(100, {"b", {1, 2}})); });
}

}  // namespace

int main() {
  tensor_rows();
  node_rows();
  gradcheck_rows();
  elementwise_rows();
  reduction_rows();
  movement_rows();
  product_rows();
  softmax_rows();
  conv2d_rows();
  pool_rows();
  norm_rows();
  dropout_rows();
  rest_of_autograd_rows();
  module_rows();
  sequential_rows();
  layer_rows();
  optimizer_rows();
  data_loader_rows();
  transform_rows();
  file_rows();
  picture_rows();
  std::cout << rows << " calls, " << failures << " of them with another outcome than expected\n";
  return failures == 0 ? 0 : 1;
}
