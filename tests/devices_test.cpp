// Devices other than the CPU, on those of second_device.cpp: their names, that the host keeps out
// of their memory, and that a whole training run gives the same bits there.
#include "autograd/devices.h"

#include "autograd/gradcheck.h"
#include "autograd/operations.h"
#include "tests/fer_testing.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

const Device second_gpu = Device::named("cuda:1");

bool has_two_gpus() {
  return error_of([] { cuda_check_device(1); }) == "no error";
}

}  // namespace

TEST_CASE("devices have names") {
  CHECK(to_string(Device::named("cpu")) == "cpu");
  for (const int index : {0, 1, 12}) {
    const Device device = Device::named("cuda:" + std::to_string(index));
    CHECK(device == Device{Device::Type::cuda, index});
    CHECK(to_string(device) == cuda_name(index));
  }
  CHECK(Device::named("cuda") == Device::cuda);
  CHECK(second_gpu != Device::cuda);
  for (const char* name : {"", "cu", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda1", "cudas",
                           "cpu:0", "CPU", "cuda:99999999999"})
    check_error([&] { Device::named(name); },
                {"\"" + std::string(name) + "\"", "cpu, cuda, cuda:1"});
}

TEST_CASE("tensors move between all devices" * doctest::skip(!has_two_gpus())) {
  const std::vector<double> values = {1, 2, 3};
  Tensor x = Tensor::from(values, {3});
  for (const Device device : {Device::cuda, second_gpu, Device::cuda, Device::cpu}) {
    x = x.to(device);
    CHECK(x.device() == device);
    CHECK(x.to_vector<double>() == values);
  }
  Tensor there = Tensor::zeros({3}, DType::float64, second_gpu);
  there.copy_from(x);
  CHECK(there.to_vector<double>() == values);
  std::ostringstream printed;
  printed << there;
  CHECK(printed.str() == "[1. 2. 3.]");
  check_error([&] { x.to(Device::named("cuda:7")); }, {"no device cuda:7"});
}

TEST_CASE("the host can't reach another device's elements by accident" *
          doctest::skip(!has_two_gpus())) {
  Tensor x = Tensor::ones({2}, DType::float64, second_gpu);
  const std::vector<std::string> words = {"data", "cuda:1", "to(Device::cpu)"};
  check_error([&] { x.data<double>(); }, words);
  check_error([&] { x.mutable_data<double>(); }, words);
  check_error([&] { cpu_backend(DType::float64).fill(1, x); }, words);
  const auto square = [](const std::vector<Tensor>& in) { return in[0] * in[0]; };
  check_error([&] { gradcheck("square", square, {x.set_requires_grad()}); },
              {"square", "cuda:1", "to(Device::cpu)"});
  check_error([&] { (x * x).backward(Tensor::ones({2}, DType::float64)); },
              {"backward", "device of the tensor"});
}

TEST_CASE("batch norm's statistics must be where its input is" * doctest::skip(!has_two_gpus())) {
  const Tensor x = Tensor::rand({4, 3}), c = Tensor::ones({3});
  const auto normed = [&](const RunningStatistics& running) { batch_norm(x, c, c, running); };
  check_error([&] { normed({c.to(second_gpu), c.clone()}); }, {"batch_norm: ", "on cuda:1"});
  check_error(
      [&] {
        normed({c.clone(), c.clone(), Tensor::zeros({}, DType::int64, second_gpu)});
      },
      {"batch_norm: ", "on cuda:1"});
  check_error(
      [&] {
        normed({c.clone(), c.clone(), Tensor::zeros({})});
      },
      {"batch_norm: ", "int64 scalar", "float32"});
}

namespace {

// At a learning rate at which rounding does not grow from step to step: at 1e-3 AdamW, which
// follows signs, makes much of it.
void train_on(const FerFolder& folder, const std::string& device, const std::string& out,
              std::optional<Index> steps = {}, bool resume = false) {
  fer::TrainOptions options;
  if (!resume) options = tiny_run(folder, out);
  if (!resume) options.lr = 3e-5;
  options.out = folder / out;
  options.device = device;
  options.steps = steps;
  options.resume = resume;
  const CapturedOutput quiet;
  fer::train(options);
}

// The losses in a run's log: the third column.
std::vector<double> losses(const std::string& run) {
  std::istringstream log(read_text(run + "/log.csv"));
  std::vector<double> result;
  std::string line, step, epoch, loss;
  std::getline(log, line);
  while (std::getline(log, step, ',') && std::getline(log, epoch, ',') &&
         std::getline(log, loss, ',') && std::getline(log, line))
    result.push_back(std::stod(loss));
  return result;
}

void check_similar(const std::vector<double>& actual, const std::vector<double>& expected) {
  REQUIRE(actual.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK_MESSAGE(std::abs(actual[i] / expected[i] - 1) < 1e-3, "step ", i + 1, ": ", actual[i],
                  " and ", expected[i]);
}

}  // namespace

TEST_CASE("running out of a GPU's memory says how much was asked for, is used and is free") {
  if (!has_cuda_kernels) return;
  const Tensor some = Tensor::zeros({1000}, DType::float32, Device::cuda);
  constexpr Index too_many = Index{1} << 40;
  check_error([&] { Tensor({too_many}, DType::float32, Device::cuda); },
              {"out of memory on " + to_string(Device::cuda), std::to_string(4 * too_many),
               "tensors use", "MiB", "are free", "smaller batch"});
  CHECK(sum(some).item() == 0);
}

TEST_CASE("a run on another device gives the same bits") {
  if (has_cuda_kernels) return;
  const FerFolder folder;
  train_on(folder, "cpu", "cpu");
  train_on(folder, "cuda", "cuda");
  for (const char* file : {"/best.safetensors", "/last.safetensors", "/confusion.csv"})
    CHECK_MESSAGE(read_text(folder / "cpu" + file) == read_text(folder / "cuda" + file),
                  std::string(file));
}

// Five steps: two whole batches, a smaller one, and of the second epoch two that are recorded.
TEST_CASE("a run on a GPU has the CPU's losses, and resumed the same bits") {
  if (!has_cuda_kernels) return;
  const FerFolder folder;
  train_on(folder, "cpu", "cpu", 5);
  train_on(folder, "cuda", "unbroken", 5);
  check_similar(losses(folder / "unbroken"), losses(folder / "cpu"));
  train_on(folder, "cuda", "resumed", 2);
  train_on(folder, "cuda", "resumed", 5, true);
  CHECK(losses(folder / "resumed") == losses(folder / "unbroken"));
  CHECK(read_text(folder / "resumed/last.safetensors") ==
        read_text(folder / "unbroken/last.safetensors"));
}

TEST_CASE("a run goes on on another device") {
  const FerFolder folder;
  train_on(folder, "cpu", "unbroken", 4);
  for (const auto& [first, second] : {std::pair("cpu", "cuda"), std::pair("cuda", "cpu")}) {
    train_on(folder, first, first, 2);
    train_on(folder, second, first, 4, true);
    check_similar(losses(folder / first), losses(folder / "unbroken"));
  }
}
