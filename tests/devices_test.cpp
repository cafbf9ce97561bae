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

}  // namespace

TEST_CASE("devices have names") {
  for (const char* name : {"cpu", "cuda:0", "cuda:1", "cuda:12"})
    CHECK(to_string(Device::named(name)) == name);
  CHECK(Device::named("cuda") == Device::cuda);
  CHECK(second_gpu != Device::cuda);
  for (const char* name : {"", "cu", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda1", "cudas",
                           "cpu:0", "CPU", "cuda:99999999999"})
    check_error([&] { Device::named(name); },
                {"\"" + std::string(name) + "\"", "cpu, cuda, cuda:1"});
}

TEST_CASE("tensors move between all devices") {
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

TEST_CASE("the host can't reach another device's elements by accident") {
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

TEST_CASE("batch norm's statistics must be where its input is") {
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

TEST_CASE("a run on another device gives the same bits") {
  const FerFolder folder;
  for (const char* device : {"cpu", "cuda"}) {
    fer::TrainOptions options = tiny_run(folder, device);
    options.device = device;
    const CapturedOutput quiet;
    fer::train(options);
  }
  for (const char* file : {"/best.safetensors", "/last.safetensors", "/confusion.csv"})
    CHECK_MESSAGE(read_text(folder / "cpu" + file) == read_text(folder / "cuda" + file), file);
}
