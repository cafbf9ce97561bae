// The graph and its walk: gradients that meet, graphs that are freed, errors, random numbers.
#include <cstring>

#include "autograd/fusion.h"
#include "autograd/gradcheck.h"
#include "autograd/node.h"
#include "autograd/operations.h"
#include "layers/resnet.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

Tensor leaf(const std::vector<double>& values) {
  return Tensor::from(values, {static_cast<Index>(values.size())}).set_requires_grad();
}

Tensor scalar_leaf(double value) {
  return Tensor::full({}, value, DType::float64).set_requires_grad();
}

using Tensors = std::vector<Tensor>;
using Values = std::vector<double>;

Values gradient(const Tensor& x) {
  return x.grad().to_vector<double>();
}

}  // namespace

// ---- the walk ----

TEST_CASE("b = a + a; c = b + b has the gradient 4") {
  const Tensor a = scalar_leaf(3), b = a + a, c = b + b;
  c.backward();
  CHECK(c.item() == 12);
  CHECK(a.grad().item() == 4);
}

TEST_CASE("diamonds: every path counts, whatever its length") {
  const Tensor x = scalar_leaf(3);
  const Tensor short_way = x * x, long_way = relu(short_way + x) * 2.0;
  (short_way * long_way + x).backward();  // x^2 (2 x^2 + 2 x) + x: 8 x^3 + 6 x^2 + 1
  CHECK(x.grad().item() == 8 * 27 + 6 * 9 + 1);

  const Tensor y = scalar_leaf(2);
  Tensor power = y;
  for (int i = 0; i < 5; ++i)
    power = power * power;  // y^32 through 32 paths
  power.backward();
  CHECK(y.grad().item() == 32 * std::pow(2.0, 31));
}

TEST_CASE("gradients of several backward passes add up, until they are cleared") {
  Tensor x = leaf({1, 2});
  sum(x * x).backward();
  sum(x * 3.0).backward();
  CHECK(gradient(x) == Values{5, 7});
  x.zero_grad();
  CHECK(!x.grad().defined());
  sum(x).backward();
  CHECK(gradient(x) == Values{1, 1});
}

TEST_CASE("backward from a given gradient") {
  const Tensor x = leaf({1, 2, 3});
  (x * x).backward(Tensor::from<double>({1, 10, 100}, {3}));
  CHECK(gradient(x) == Values{2, 40, 600});
  x.backward(Tensor::from<double>({1, 1, 1}, {3}));  // a leaf is its own graph
  CHECK(gradient(x) == Values{3, 41, 601});
}

TEST_CASE("a chain of a million operations runs backward and is freed") {
  const Tensor x = scalar_leaf(1), one = Tensor::ones({}, DType::float64);
  for (const bool run : {true, false}) {
    Tensor y = x;
    std::weak_ptr<Node> first;
    for (int i = 0; i < 1'000'000; ++i) {
      y = y + one;
      if (i == 0) first = y.node();
    }
    if (run) y.backward();
    CHECK(first.expired() == run);
    y = Tensor();
    CHECK(first.expired());
  }
  CHECK(x.grad().item() == 1);
}

TEST_CASE("a graph may be kept for a second pass") {
  const Tensor x = leaf({1, 2});
  const Tensor y = sum(x * x);
  y.backward(true);
  y.backward(true);
  CHECK(gradient(x) == Values{4, 8});
  y.backward();
  CHECK(gradient(x) == Values{6, 12});
}

TEST_CASE("a result keeps the last pass's gradient only if asked to") {
  const Tensor x = leaf({1, 2});
  Tensor kept = x * 2.0;
  const Tensor dropped = kept * kept, y = sum(dropped);
  kept.retain_grad();
  for (int pass = 1; pass <= 2; ++pass) {
    y.backward(true);
    CHECK(gradient(kept) == Values{4, 8});
    CHECK(!dropped.grad().defined());
    CHECK(gradient(x) == Values{8.0 * pass, 16.0 * pass});
  }
}

TEST_CASE("a freed graph says so") {
  const Tensor x = leaf({1, 2});
  const Tensor shared = x * x, y = sum(shared);
  y.backward();
  check_error([&] { y.backward(); }, {"sum: ", "freed", "retain_graph"});
  check_error([&] { sum(shared * 2.0).backward(); }, {"multiply: ", "freed"});
  CHECK(gradient(x) == Values{2, 4});
}

TEST_CASE("a refused pass changes no gradient") {
  const Tensor x = leaf({1, 2});
  const Tensor shared = x * x;
  Tensor y = sum(shared);
  y.retain_grad();
  y.backward();
  check_error([&] { y.backward(); }, {"freed"});
  check_error([&] { sum(shared + x).backward(); }, {"freed"});
  CHECK(y.grad().item() == 1);
  CHECK(gradient(x) == Values{2, 4});
}

TEST_CASE("what a backward pass needs must not be overwritten") {
  Tensor x = leaf({1, 2}), y = leaf({3, 4});
  const Tensor product = sum(x * y);
  y.mutable_data<double>()[0] = 7;
  check_error([&] { product.backward(); }, {"multiply: ", "shape [2]", "overwritten", "1 changes"});

  const Tensor root = sqrt(y);  // saves its result
  Tensor handle = root;
  handle.copy_from(Tensor::zeros({2}, DType::float64));
  check_error([&] { sum(root).backward(); }, {"sqrt: ", "overwritten"});

  const Tensor total = sum(x + y);  // saves nothing
  x.copy_from(y);
  total.backward();
  CHECK(gradient(x) == Values{1, 1});
}

TEST_CASE("leaves never share a gradient's elements, nor with the caller") {
  Tensor a = leaf({1, 2}), b = leaf({3, 4});
  Tensor c = leaf({5, 6});
  Tensor seed = Tensor::from<double>({1, 10}, {2});
  const auto total = [&] { return a + b + reshape(c, {2}); };
  total().backward(seed);
  a.grad().mutable_data<double>()[0] = 100;
  seed.mutable_data<double>()[1] = 100;
  CHECK(gradient(b) == Values{1, 10});
  CHECK(gradient(c) == Values{1, 10});

  const Tensor held = b.grad();
  total().backward(Tensor::ones({2}, DType::float64));
  CHECK(gradient(a) == Values{101, 11});
  CHECK(gradient(b) == Values{2, 11});
  CHECK(gradient(c) == Values{2, 11});
  CHECK(held.to_vector<double>() == Values{1, 10});
}

// ---- what is recorded ----

TEST_CASE("nothing is recorded inside NoGrad") {
  const Tensor x = leaf({1, 2});
  CHECK(grad_enabled());
  {
    const NoGrad outer;
    { const NoGrad inner; }
    CHECK(!grad_enabled());
    CHECK(!(x * x).requires_grad());
  }
  CHECK_THROWS_AS(
      [] {
        const NoGrad no_grad;
        fail("out of here");
      }(),
      Error);
  CHECK(grad_enabled());
  CHECK((x * x).requires_grad());
}

TEST_CASE("detach cuts the history and shares the elements") {
  Tensor x = leaf({2, 3});
  Tensor constant = x.detach();
  sum(x * constant).backward();
  CHECK(gradient(x) == Values{2, 3});
  CHECK(!constant.requires_grad());
  constant.mutable_data<double>()[0] = 5;
  CHECK(x.to_vector<double>() == Values{5, 3});
  Tensor copy = x.clone();
  copy.mutable_data<double>()[0] = 6;
  CHECK(x.to_vector<double>() == Values{5, 3});
  CHECK(!copy.requires_grad());
}

TEST_CASE("a conversion is recorded, through an integer nothing leads back") {
  const Tensor x = leaf({2, 3}), half = Tensor::full({2}, 0.5).set_requires_grad();
  sum(x * half.to(DType::float64)).backward();
  CHECK(gradient(x) == Values{0.5, 0.5});
  CHECK(half.grad().dtype() == DType::float32);
  CHECK(gradient(half) == Values{2, 3});
  CHECK(!x.to(DType::int64).requires_grad());
  const NoGrad no_grad;
  CHECK(!x.to(DType::float32).requires_grad());
}

TEST_CASE("flags of leaves and results") {
  Tensor x = Tensor::ones({2});
  CHECK(!x.requires_grad());
  Tensor handle = x;
  x.set_requires_grad();
  CHECK(handle.requires_grad());
  CHECK(!x.grad().defined());
  Tensor y = x * 2.0;
  CHECK(y.requires_grad());
  CHECK(!(Tensor::ones({2}) * 2.0).requires_grad());
  check_error([&] { y.set_requires_grad(false); }, {"result of multiply", "detach()"});
  check_error([&] { Tensor::zeros({1}, DType::int64).set_requires_grad(); }, {"int64"});
  check_error([&] { Tensor::ones({1}).retain_grad(); }, {"retain_grad"});
  check_error([&] { Tensor::ones({1}).set_grad(x); }, {"set_grad"});
  x.set_requires_grad(false);
  CHECK(!handle.requires_grad());
}

TEST_CASE("only inputs that need a gradient get one") {
  const Tensor x = leaf({1, 2}), constant = Tensor::from<double>({3, 4}, {2});
  sum(x * constant + constant).backward();
  CHECK(gradient(x) == Values{3, 4});
  CHECK(!constant.grad().defined());
}

// ---- errors ----

TEST_CASE("backward says what it needs") {
  const Tensor x = leaf({1, 2});
  check_error([&] { (x * x).backward(); }, {"backward", "[2]", "sum()"});
  check_error([] { Tensor::ones({}).backward(); }, {"backward", "set_requires_grad"});
  check_error([&] { (x * x).backward(Tensor::ones({3}, DType::float64)); }, {"backward", "[2]"});
  check_error([&] { (x * x).backward(Tensor::ones({2})); }, {"backward", "type"});
  check_error([&] { (x * x).backward(Tensor()); }, {"backward"});
  CHECK(!x.grad().defined());
}

TEST_CASE("an undefined tensor is an error, not a crash") {
  const Tensor undefined;
  Tensor defined = Tensor::ones({1});
  const std::vector<std::function<void()>> uses = {
      [&] { undefined.shape(); },
      [&] { undefined.size(0); },
      [&] { undefined.dim(); },
      [&] { undefined.numel(); },
      [&] { undefined.dtype(); },
      [&] { undefined.device(); },
      [&] { undefined.is_floating(); },
      [&] { undefined.item(); },
      [&] { undefined.data<float>(); },
      [&] { Tensor(undefined).mutable_data<float>(); },
      [&] { undefined.to_vector<float>(); },
      [&] { undefined.requires_grad(); },
      [&] { Tensor(undefined).set_requires_grad(); },
      [&] { undefined.grad(); },
      [&] { Tensor(undefined).set_grad(defined); },
      [&] { Tensor(undefined).retain_grad(); },
      [&] { undefined.backward(); },
      [&] { undefined.backward(defined); },
      [&] { undefined.detach(); },
      [&] { undefined.clone(); },
      [&] { undefined.to(DType::float64); },
      [&] { undefined.to(Device::cpu); },
      [&] { defined.set_data(undefined); },
      [&] { defined.copy_from(undefined); },
      [&] { Tensor(undefined).set_data(defined); },
      [&] { Tensor(undefined).copy_from(defined); },
  };
  for (std::size_t i = 0; i < uses.size(); ++i) {
    INFO("use ", i);
    check_error(uses[i], {"undefined tensor"});
  }
}

TEST_CASE("wrong shapes, types and axes of tensors are errors") {
  Tensor x = Tensor::ones({2, 3});
  check_error([] { Tensor({2, -1}); }, {"[2, -1]"});
  constexpr Index half = Index{1} << 32;  // half * half is 0 in 64 bits
  check_error([=] { Tensor({half, half}); }, {"[4294967296, 4294967296]", "more elements"});
  check_error([=] { Tensor({half, 0, half}); }, {"more elements"});
  check_error([=] { Tensor({half, half / 4}); }, {"[4294967296, 1073741824]", "more elements"});
  check_error([=] { Tensor::from<float>({}, {half, half}); }, {"more elements"});
  check_error([&] { reshape(x, {half, half, -1}); }, {"more elements"});
  check_error([] { Tensor::from<float>({1, 2}, {3}); }, {"2 values", "[3]"});
  check_error([&] { x.size(2); }, {"axis 2", "[2, 3]"});
  check_error([&] { x.size(-3); }, {"axis -3", "[2, 3]"});
  check_error([&] { x.item(); }, {"item", "6 elements", "[2, 3]"});
  check_error([&] { x.data<double>(); }, {"float32", "float64", "to()"});
  check_error([&] { x.copy_from(Tensor::ones({3, 2})); }, {"copy_from", "[3, 2]", "[2, 3]"});
  check_error([&] { x.set_data(Tensor::ones({3, 2})); }, {"set_data", "[3, 2]", "[2, 3]"});
}

TEST_CASE("errors begin with the layer's path") {
  const bool fused = fusion_enabled();
  set_fusion(false);
  Sequential net;
  BasicBlock& block = net.add<Sequential>().add<BasicBlock>(16, 16, 1);
  block.sa.conv1.weight = Tensor::zeros({7, 7, 3, 1});
  CHECK(error_of([&] {
          net(Tensor::ones({1, 8, 8, 16}));
        }) ==
        "0.0.sa.conv1: conv2d: input has 2 channels, weight expects 3; input [1, 8, 8, 2], weight "
        "[7, 7, 3, 1], groups 1");
  CHECK(error_of([&] {
          net(Tensor::ones({8, 8, 16}));
        }).starts_with("0.0.conv1: conv2d: input [8"));
  set_fusion(fused);
  block.conv1.weight = Tensor::zeros({3, 3, 16, 8});
  CHECK(error_of([&] { net(Tensor::ones({1, 8, 8, 16})); }).starts_with("0.0.bn1: batch_norm: "));
  CHECK(error_of([] { fail("no scope is left open"); }) == "no scope is left open");
}

// ---- random numbers ----

TEST_CASE("Philox gives its known answers") {
  using Words = std::array<std::uint32_t, 4>;
  // The first is Random123's, the others are those of fixtures/fixture.py, which knows all three
  // of Random123's.
  static_assert(philox(0, 0)[0] == 0x6627e8d5);  // the compiler can, so any device can
  CHECK(philox(0, 0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox(1, 0) == Words{0xe3e80670, 0xe50a0ebc, 0x95f222c0, 0xb615aa27});
  CHECK(philox(0, 1) == Words{0xf8e4cca4, 0x5cb200db, 0xb1a574eb, 0x097eff67});
  CHECK(philox(0x123456789abcdef0, 0xfedcba9876543210) ==
        Words{0xef8e01b2, 0x332e9f89, 0x255a0105, 0xdf74ab7c});
  CHECK(philox(~0ULL, ~0ULL) == Words{0x4d18d7d2, 0x430ac65a, 0xbd2fa22a, 0x0afae10d});
  CHECK(Generator::uniform_at(0, 0) == 0.3990464708489645);
}

TEST_CASE("a stream's counter is its whole state") {
  Generator whole{9, 0}, parts{9, 0};
  const Tensor six = Tensor::rand({6}, whole, DType::float64);
  const Tensor two = Tensor::rand({2}, parts, DType::float64);
  const Tensor four = Tensor::rand({2, 2}, parts, DType::float64);
  CHECK(six.to_vector<double>() == concatenate({two, reshape(four, {4})}, 0).to_vector<double>());
  CHECK(parts.counter == 6);
  CHECK(parts.uniform() == Generator::uniform_at(9, 6));

  // Normals take two numbers each, from an even one on.
  Generator resumed{9, parts.counter};
  const Tensor a = Tensor::randn({3}, parts, DType::float64);
  CHECK(parts.counter == 14);
  CHECK(a.to_vector<double>() == Tensor::randn({3}, resumed, DType::float64).to_vector<double>());
  CHECK(a.to_vector<double>() != Tensor::randn({3}, parts, DType::float64).to_vector<double>());

  manual_seed(4);
  const Tensor first = Tensor::rand({3});
  manual_seed(4);
  CHECK(first.to_vector<float>() == Tensor::rand({3}).to_vector<float>());
  manual_seed(5);
  CHECK(first.to_vector<float>() != Tensor::rand({3}).to_vector<float>());
}

TEST_CASE("moments of uniform and normal numbers") {
  constexpr double count = 100'000;
  Generator generator{1, 0};
  for (const DType dtype : {DType::float32, DType::float64}) {
    const Tensor uniform = Tensor::rand({Index{100'000}}, generator, dtype);
    const Tensor normal = Tensor::randn({Index{100'000}}, generator, dtype);
    const auto moment = [](const Tensor& x, int power) {
      Tensor product = x;
      for (int i = 1; i < power; ++i)
        product = product * x;
      return mean(product).item();
    };
    // 4 standard deviations of each mean.
    CHECK(std::abs(moment(uniform, 1) - 1 / 2.0) < 4 * std::sqrt(1 / 12.0 / count));
    CHECK(std::abs(moment(uniform, 2) - 1 / 3.0) < 4 * std::sqrt(4 / 45.0 / count));
    CHECK(std::abs(moment(normal, 1)) < 4 / std::sqrt(count));
    CHECK(std::abs(moment(normal, 2) - 1) < 4 * std::sqrt(2 / count));
    CHECK(std::abs(moment(normal, 3)) < 4 * std::sqrt(15 / count));
    CHECK(std::abs(moment(normal, 4) - 3) < 4 * std::sqrt(96 / count));
    CHECK(max(uniform).item() < 1);
    CHECK(max(-uniform).item() <= 0);
  }
}

// ---- gradcheck ----

namespace {

// y = x^2, but at element [1, 2] backward takes 2.5 x for the derivative.
struct WrongSquareNode final : Node {
  Saved x;
  explicit WrongSquareNode(const Tensor& x) : Node("wrong_square"), x(x) {}

  Gradients backward(const Tensor& grad_output) override {
    Tensor factor = Tensor::full(x.shape(), 2, DType::float64);
    factor.mutable_data<double>()[1 * x.shape()[1] + 2] = 2.5;
    return {grad_output * factor * x.get()};
  }
};

Tensor wrong_square(const Tensor& x) {
  Tensor y = x.detach() * x.detach();
  if (should_record({&x})) record(y, std::make_shared<WrongSquareNode>(x), {x});
  return y;
}

}  // namespace

TEST_CASE("gradcheck finds the one wrong element and names it") {
  const auto f = [](const Tensors& x) { return x[0] + wrong_square(x[1]); };
  Tensor a = Tensor::ones({2, 3}, DType::float64).set_requires_grad();
  Tensor b = Tensor::full({2, 3}, 4, DType::float64).set_requires_grad();
  const GradcheckResult result = gradcheck("sum of squares", f, {a, b});
  CHECK(!result.passed);
  CHECK(result.worst_error == doctest::Approx(0.2).epsilon(1e-6));
  const std::string start = "sum of squares: input 1 at [1, 2]: backward gives ";
  REQUIRE(result.message.starts_with(start));
  double analytic = 0, numeric = 0;
  REQUIRE(std::sscanf(result.message.c_str() + start.size(), "%lf, the difference quotient %lf",
                      &analytic, &numeric) == 2);
  CHECK(analytic / numeric == doctest::Approx(1.25).epsilon(1e-6));
  CHECK(result.message.find("relative error 0.") != std::string::npos);

  const GradcheckResult projected = gradcheck("sum of squares", f, {a, b}, {.projections = 3});
  CHECK(!projected.passed);
  CHECK(projected.message == result.message);
  CHECK(gradcheck("without it", f, {a, b.detach()}).passed);
}

TEST_CASE("gradcheck along random directions") {
  const Tensor x = Tensor::from<double>({1, -2, 3, -4}, {2, 2}).set_requires_grad();
  const Tensor labels = Tensor::from<std::int64_t>({1, 0}, {2});
  const auto f = [](const Tensors& in) { return cross_entropy(in[0], in[1]); };
  const GradcheckResult result = gradcheck("loss", f, {x, labels}, {.projections = 3});
  CHECK_MESSAGE(result.passed, result.message);
  CHECK(result.worst_error < 1e-8);
  CHECK(result.message.starts_with("loss: random direction "));
}

TEST_CASE("gradcheck refuses what it can't check") {
  const auto square = [](const Tensors& x) { return x[0] * x[0]; };
  const Tensor x = Tensor::ones({2}, DType::float64);
  check_error([&] { gradcheck("square", square, {Tensor::ones({2}).set_requires_grad()}); },
              {"square", "float32", "float64"});
  check_error([&] { gradcheck("square", square, {x}); }, {"square", "no gradient"});
  const auto not_a_number = [](const Tensors& in) { return in[0] * NAN; };
  CHECK(!gradcheck("NaN", not_a_number, {x.clone().set_requires_grad()}).passed);
}
