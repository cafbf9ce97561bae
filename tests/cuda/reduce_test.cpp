// What looks at whole rows on a GPU (sums, maxima, softmax, layer norm): every rung against the
// CPU, on shapes for which a thread, a warp, a block and several blocks share a row.
#include "autograd/operations.h"
#include "cuda/ladders.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

// The rung as it was before, whatever a test does.
struct Rung {
  cuda::RowRung before = cuda::row_rung();
  ~Rung() { cuda::set_row_rung(before); }
};

constexpr cuda::RowRung rungs[] = {cuda::RowRung::automatic, cuda::RowRung::thread,
                                   cuda::RowRung::warp, cuda::RowRung::block};

struct Operation {
  const char* name;
  std::function<Tensor(const Tensor&)> compute;  // of x [outer, length, inner]
};

const std::vector<Operation> operations = {
    {"sum", [](const Tensor& x) { return sum(x, {1}); }},
    {"sum of all", [](const Tensor& x) { return sum(x); }},
    {"max", [](const Tensor& x) { return max(x, {1}); }},
    {"max of all", [](const Tensor& x) { return max(x); }},
    {"softmax", [](const Tensor& x) { return softmax(x, 1); }},
    {"log_softmax", [](const Tensor& x) { return log_softmax(x, 1); }},
    {"layer_norm",
     [](const Tensor& x) {
       const Tensor ones = Tensor::ones({x.size(1)}, x.dtype(), x.device());
       return layer_norm(transpose(x), ones + 1, ones);
     }},
};

// The result and the gradient of x, on the CPU, where the result's gradient differs by element.
std::vector<Tensor> run(const Operation& operation, const Tensor& values, Device device) {
  Tensor x = values.to(device).detach();
  x.set_requires_grad(true);
  const Tensor y = operation.compute(x);
  Generator generator{5, 0};
  sum(y * Tensor::rand(y.shape(), generator, y.dtype()).to(device)).backward();
  return {y.to(Device::cpu), x.grad().to(Device::cpu)};
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.to_vector<double>() == b.to_vector<double>();
}

// [outer, length, inner]: lengths on both sides of a warp and of a block, and some at random.
std::vector<Shape> shapes() {
  std::vector<Shape> all = {{1, 1, 1},   {60, 7, 1},  {3, 31, 1},   {9, 33, 1},
                            {3, 257, 1}, {3, 255, 2}, {2, 5000, 1}, {1, 5000, 3}};
  Generator generator{11, 0};
  const auto draw = [&](Index most) {
    return 1 + static_cast<Index>(generator.uniform() * static_cast<double>(most));
  };
  for (int i = 0; i < 4; ++i)
    all.push_back({draw(9), draw(300), i % 2 == 0 ? 1 : draw(40)});
  return all;
}

void check_rungs(const Operation& operation, const Tensor& x) {
  const std::vector<Tensor> expected = run(operation, x, Device::cpu);
  for (const cuda::RowRung rung : rungs) {
    cuda::set_row_rung(rung);
    const std::string what = std::string(operation.name) + " of " + to_string(x.shape()) + " by " +
                             std::string(cuda::row_rung_names()[static_cast<std::size_t>(rung)]);
    const std::vector<Tensor> actual = run(operation, x, Device::cuda);
    const std::vector<Tensor> again = run(operation, x, Device::cuda);
    for (std::size_t i = 0; i < actual.size(); ++i) {
      check_close(what, actual[i], expected[i], x.dtype() == DType::float32 ? 2e-5 : 1e-11);
      CHECK_MESSAGE(same_bits(actual[i], again[i]), what, " differs from run to run");
    }
  }
}

}  // namespace

TEST_CASE("every rung of what looks at rows agrees with the CPU, with the same bits every time") {
  const Rung restored;
  Generator generator{3, 0};
  int count = 0;
  for (const Shape& shape : shapes()) {
    const DType dtype = ++count % 3 == 0 ? DType::float64 : DType::float32;
    const Tensor x = Tensor::randn(shape, generator, dtype);
    for (const Operation& operation : operations)
      check_rungs(operation, x);
  }
}

TEST_CASE("on every rung the first of equal maxima counts, and the first NaN more than all") {
  const Rung restored;
  for (const cuda::RowRung rung : rungs) {
    cuda::set_row_rung(rung);
    for (const Index length : {Index{3}, Index{40}, Index{700}, Index{9000}}) {
      std::vector<float> values(static_cast<std::size_t>(2 * length), -INFINITY);
      const auto at = [&](Index row, Index i) -> float& {
        return values[static_cast<std::size_t>(row * length + i)];
      };
      at(0, length / 2) = at(0, length - 1) = 2;
      at(1, 0) = INFINITY;
      at(1, length / 2) = at(1, length - 1) = NAN;
      const Tensor x = Tensor::from(values, {2, length}).to(Device::cuda);
      const std::vector<float> y = max(x, {1}).to_vector<float>();
      CHECK(y[0] == 2);
      CHECK(std::isnan(y[1]));
      CHECK(argmax(x).to_vector<std::int64_t>() == std::vector{length / 2, length / 2});
      const Tensor nothing = max(Tensor::full({1, length}, -INFINITY).to(Device::cuda), {1});
      CHECK(nothing.item() == -INFINITY);
    }
  }
}

TEST_CASE("a label that is no class makes loss and gradient NaN where nobody waits for labels") {
  for (const std::int64_t label : {std::int64_t{-1}, std::int64_t{3}, std::int64_t{1} << 40}) {
    Tensor logits = Tensor::ones({2, 3}).to(Device::cuda);
    logits.set_requires_grad(true);
    const Tensor labels = Tensor::from(std::vector<std::int64_t>{1, label}, {2}).to(Device::cuda);
    const Tensor loss = cross_entropy(logits, labels);
    CHECK(std::isnan(loss.item()));
    loss.backward();
    const std::vector<float> gradient = logits.grad().to_vector<float>();
    for (std::size_t i = 0; i < 6; ++i)
      CHECK(std::isnan(gradient[i]) == (i >= 3));
  }
}
