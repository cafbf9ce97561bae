// Layers against PyTorch's, by its weights; initial values, state_dict, train and eval, printing.
#include <algorithm>
#include <memory>
#include <thread>

#include "autograd/fusion.h"
#include "autograd/gradcheck.h"
#include "autograd/node.h"
#include "layers/attention.h"
#include "layers/patch_extraction.h"
#include "layers/resnet.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

const Fixture& fixture() {
  static const Fixture loaded("layers");
  return loaded;
}

// The layers of make_layers.py.
struct Entry {
  std::string name;
  std::function<std::unique_ptr<Module>()> make;
};

template <typename Layer, typename... Arguments>
Entry entry(const std::string& name, Arguments... arguments) {
  return {name, [=] { return std::make_unique<Layer>(arguments...); }};
}

std::unique_ptr<Module> two_linear() {
  auto net = std::make_unique<Sequential>();
  net->add<Linear>(3, 5);
  net->add<Tanh>();
  net->add<Linear>(5, 2);
  return net;
}

const Entry entries[] = {
    entry<Linear>("linear", 5, 3),
    entry<Linear>("linear_tokens", 3, 1),
    entry<Conv2d>("conv", 3, 4, 3, Conv2dOptions{.stride = 2, .padding = 1}),
    entry<Conv2d>("conv_without_bias", 2, 3, 5, Conv2dOptions{.padding = 2}, false),
    entry<Conv2d>("conv_groups", 6, 4, 2, Conv2dOptions{.groups = 2}),
    entry<BatchNorm2d>("batch_norm", 3),
    entry<LayerNorm>("layer_norm", 7),
    entry<MultiHeadAttention>("attention", 8, 1),
    entry<MultiHeadAttention>("attention_heads", 8, 4),
    entry<ChannelAttention>("channel_attention", 32),
    entry<SpatialAttention>("spatial_attention"),
    entry<BasicBlock>("block", 16, 16, 1),
    entry<BasicBlock>("block_downsample", 4, 16, 2),
    entry<PatchExtraction>("patch_extraction", 5),
    entry<ReLU>("relu"),
    entry<Tanh>("tanh"),
    entry<MaxPool2d>("max_pool", 3, 2, 1),
    entry<GlobalAveragePool>("global_average_pool"),
    entry<GlobalMaxPool>("global_max_pool"),
    {"sequential", two_linear},
};

// With PyTorch's weights, in float64 or float32.
std::unique_ptr<Module> loaded(const Entry& layer, DType dtype, Device device = Device::cpu) {
  std::unique_ptr<Module> module = layer.make();
  module->to(dtype);
  module->to(device);
  module->load_state_dict(fixture().under(layer.name + ".state."));
  return module;
}

Tensor file_layout(const Tensor& tensor, const std::vector<Index>& axes) {
  return axes.empty() ? tensor : permute(tensor, axes);
}

void check_layer(const Entry& layer, DType dtype, Device device) {
  const double tolerance = dtype == DType::float64 ? 1e-11 : 2e-5;
  const std::unique_ptr<Module> module = loaded(layer, dtype, device);
  const std::string name = layer.name + ".";
  Tensor x = fixture().at(name + "input").to(dtype).to(device).clone().set_requires_grad();
  const Tensor y = (*module)(x);
  check_close("output", y, fixture().at(name + "output"), tolerance);
  y.backward(fixture().at(name + "grad_output").to(dtype).to(device));
  check_close("gradient of the input", x.grad(), fixture().at(name + "grad_input"), tolerance);
  for (const Module::Named& parameter : module->named_parameters())
    check_close("gradient of " + parameter.name,
                file_layout(parameter.tensor.grad(), parameter.file_axes),
                fixture().at(name + "grad." + parameter.name), tolerance);
  for (const Module::Named& buffer : module->named_buffers())
    check_close(buffer.name, buffer.tensor, fixture().at(name + "after." + buffer.name), tolerance);
  module->eval();
  check_close("evaluation", (*module)(x), fixture().at(name + "evaluation"), tolerance);
}

}  // namespace

TEST_CASE("layers compute what PyTorch's do, from its weights") {
  const bool before = fusion_enabled();
  for (const bool fused : {true, false})
    for (const Entry& layer : entries)
      for (const Device device : devices())
        for (const DType dtype : {DType::float64, DType::float32}) {
          INFO(layer.name, " ", std::string(to_string(dtype)), " ", to_string(device),
               fused ? " fused" : "");
          set_fusion(fused);
          check_layer(layer, dtype, device);
        }
  set_fusion(before);
}

TEST_CASE("state_dict has PyTorch's names, shapes and values") {
  for (const Entry& layer : entries) {
    INFO(layer.name);
    const StateDict expected = fixture().under(layer.name + ".state.");
    const StateDict state = loaded(layer, DType::float32)->state_dict();
    CHECK(state.size() == expected.size());
    for (const auto& entry : expected) {  // Clang's lambdas, in doctest, take no [name, tensor]
      const std::string& name = entry.first;
      const Tensor& tensor = entry.second;
      REQUIRE_MESSAGE(state.count(name), name);
      check_close(name, state.at(name), tensor, 0);
      CHECK_MESSAGE(state.at(name).is_floating() == tensor.is_floating(), name);
    }
  }
}

TEST_CASE("gradcheck of whole layers") {
  for (const Entry& layer : entries) {
    const std::unique_ptr<Module> module = loaded(layer, DType::float64);
    std::vector<Tensor> inputs = {
        fixture().at(layer.name + ".input").to(DType::float64).clone().set_requires_grad()};
    for (const Tensor& parameter : module->parameters())
      inputs.push_back(parameter);
    // gradcheck works on copies; at its first call the module takes over their elements and nodes.
    const auto function = [&](const std::vector<Tensor>& in) {
      const std::vector<Module::Named> own = module->named_parameters();
      for (std::size_t i = 0; i < own.size(); ++i) {
        Tensor parameter = own[i].tensor;
        if (parameter.node() == in[i + 1].node()) continue;
        parameter.set_data(in[i + 1]);
        parameter.set_node(in[i + 1].node());
      }
      return (*module)(in[0]);
    };
    const GradcheckResult result = gradcheck(layer.name, function, inputs, {.projections = 3});
    CHECK_MESSAGE(result.passed, result.message);
  }
}

// ---- initial values ----

namespace {

// Within +-bound, with the mean and variance of U(-bound, bound), within 5 standard deviations.
void check_uniform(const std::string& name, const Tensor& tensor, double bound) {
  INFO(name);
  const double count = static_cast<double>(tensor.numel());
  CHECK(max(tensor).item() <= bound * (1 + 1e-6));
  CHECK(max(-tensor).item() <= bound * (1 + 1e-6));
  CHECK(std::abs(mean(tensor).item()) < 5 * bound / std::sqrt(3 * count));
  CHECK(std::abs(mean(tensor * tensor).item() - bound * bound / 3) <
        5 * bound * bound * std::sqrt(4 / 45.0 / count));
}

void check_all(const std::string& name, const Tensor& tensor, double value) {
  check_close(name, tensor, Tensor::full(tensor.shape(), value, tensor.dtype()), 0);
}

}  // namespace

TEST_CASE("initial values are distributed as PyTorch's") {
  manual_seed(1);
  const Linear linear(100, 70);
  check_uniform("linear weight", linear.weight, 0.1);
  check_uniform("linear bias", linear.bias, 0.1);
  const Conv2d conv(16, 32, 3), depthwise(64, 64, 4, {.groups = 64});
  check_uniform("conv weight", conv.weight, 1 / std::sqrt(16 * 9.0));
  check_uniform("conv bias", conv.bias, 1 / std::sqrt(16 * 9.0));
  check_uniform("depthwise weight", depthwise.weight, 1 / 4.0);
  check_uniform("depthwise bias", depthwise.bias, 1 / 4.0);
  const MultiHeadAttention attention(64, 4);
  check_uniform("in_proj_weight", attention.in_proj_weight, std::sqrt(6 / 256.0));
  check_uniform("out_proj.weight", attention.out_proj.weight, 1 / 8.0);
  check_all("in_proj_bias", attention.in_proj_bias, 0);
  check_all("out_proj.bias", attention.out_proj.bias, 0);
  const BatchNorm2d norm(5);
  check_all("weight", norm.weight, 1);
  check_all("bias", norm.bias, 0);
  check_all("running_mean", norm.running_mean, 0);
  check_all("running_var", norm.running_var, 1);
  CHECK(norm.num_batches_tracked.item() == 0);
  CHECK(norm.num_batches_tracked.dtype() == DType::int64);
}

TEST_CASE("the same seed gives the same network, another seed another") {
  const auto weights = [](std::uint64_t seed) {
    manual_seed(seed);
    return Conv2d(3, 5, 3).weight.to_vector<float>();
  };
  CHECK(weights(3) == weights(3));
  CHECK(weights(3) != weights(4));
}

// ---- modes ----

TEST_CASE("train and eval reach every part") {
  BasicBlock block(4, 16, 2);
  CHECK(block.is_training());
  block.eval();
  CHECK(!block.bn2.is_training());
  const Tensor x = Tensor::ones({2, 4, 4, 4});
  const std::vector<float> mean = block.bn1.running_mean.to_vector<float>();
  block(x);
  CHECK(block.bn1.running_mean.to_vector<float>() == mean);
  CHECK(block.bn1.num_batches_tracked.item() == 0);
  block.train();
  CHECK((*block.downsample)[1].is_training());
  block(x);
  CHECK(block.bn1.num_batches_tracked.item() == 1);
  CHECK(block.bn2.num_batches_tracked.item() == 1);

  Dropout dropout(0.5);
  const Tensor ones = Tensor::ones({1000});
  const std::vector<float> dropped = dropout(ones).to_vector<float>();
  CHECK(std::count(dropped.begin(), dropped.end(), 0.0f) > 400);
  CHECK(std::count(dropped.begin(), dropped.end(), 2.0f) > 400);
  dropout.eval();
  CHECK(dropout(ones).to_vector<float>() == ones.to_vector<float>());
}

// In evaluation convolutions keep their packed weights: which form that is depends on the image.
TEST_CASE("evaluation does not depend on what was evaluated before") {
  Conv2d conv(3, 8, 5, {.padding = 2});
  for (const Index width : {8, 32, 8}) {
    const Tensor x = Tensor::randn({2, width, width, 3});
    const Tensor expected = conv(x);
    const NoGrad no_grad;
    check_close("width " + std::to_string(width), conv(x), expected, 1e-6);
  }
  const Tensor weight = Tensor::randn({3, 3, 2, 8}), other = reshape(weight, {3, 3, 4, 4});
  const Tensor x = Tensor::randn({1, 9, 9, 2}), wide = Tensor::randn({1, 9, 9, 4});
  const Tensor expected = conv2d(x, weight), wide_expected = conv2d(wide, other);
  const NoGrad no_grad;
  for (int round = 0; round < 2; ++round) {
    check_close("weight", conv2d(x, weight), expected, 1e-6);
    check_close("reshaped weight", conv2d(wide, other), wide_expected, 1e-6);
  }
}

TEST_CASE("several threads may evaluate one network, on images of different sizes") {
  Conv2d conv(3, 8, 5, {.padding = 2});
  std::vector<std::string> problems(4);
  std::vector<std::thread> threads;
  for (std::string& problem : problems)
    threads.emplace_back([&conv, &problem, width = Index{8} + 8 * (&problem - problems.data())] {
      Generator generator{static_cast<std::uint64_t>(width), 0};
      const Tensor x = Tensor::randn({1, width, width, 3}, generator), expected = conv(x);
      const NoGrad no_grad;
      for (int round = 0; round < 200 && problem.empty(); ++round)
        problem = difference(conv(x), expected, 1e-6);
    });
  for (std::thread& thread : threads)
    thread.join();
  for (const std::string& problem : problems)
    CHECK(problem == "");
}

TEST_CASE("to() converts in place, zero_grad clears all") {
  BasicBlock block(4, 16, 2);
  const Tensor weight = block.conv1.weight;
  block.to(DType::float64);
  CHECK(weight.dtype() == DType::float64);  // handles stay handles
  CHECK(weight.requires_grad());
  CHECK(block.bn1.running_var.dtype() == DType::float64);
  CHECK(block.bn1.num_batches_tracked.dtype() == DType::int64);
  sum(block(Tensor::ones({2, 4, 4, 4}, DType::float64))).backward();
  for (const Tensor& parameter : block.parameters())
    CHECK(parameter.grad().defined());
  block.zero_grad();
  for (const Tensor& parameter : block.parameters())
    CHECK(!parameter.grad().defined());
}

// ---- names ----

TEST_CASE("weights that do not fit are all listed, and nothing changes") {
  const std::unique_ptr<Module> net = two_linear();
  const StateDict before = net->state_dict();
  StateDict wrong = before;
  wrong.erase("0.bias");
  wrong["2.weight"] = Tensor::zeros({5, 2});
  wrong["2.bias"] = Tensor::zeros({2}, DType::int64);
  wrong["0.weight"] = Tensor::zeros({5, 3});
  wrong["3.weight"] = Tensor::zeros({1});
  CHECK(error_of([&] { net->load_state_dict(wrong); }) ==
        "these weights are not for this network:"
        "\n  missing: 0.bias [5]"
        "\n  shape: 2.weight is [5, 2], the network needs [2, 5]"
        "\n  type: 2.bias is int64, the network needs float32"
        "\n  unexpected: 3.weight [1]");
  for (const auto& [name, tensor] : net->state_dict())
    check_close(name, tensor, before.at(name), 0);
}

TEST_CASE("state_dict is a copy, parameters are handles") {
  Linear linear(2, 2);
  linear.state_dict().at("bias").mutable_data<float>()[0] = 100;
  CHECK(linear.bias.to_vector<float>()[0] != 100);
  linear.parameters()[1].mutable_data<float>()[0] = 100;
  CHECK(linear.bias.to_vector<float>()[0] == 100);
  CHECK(!linear.state_dict().at("weight").requires_grad());
}

TEST_CASE("a module is printed as a tree with shapes and counts") {
  const auto printed = [](const Module& module) {
    std::ostringstream text;
    text << module;
    return text.str();
  };
  const auto line = [](const std::string& start, const std::string& count) {
    return start + std::string(100 - start.size() - count.size(), ' ') + count + "\n";
  };
  CHECK(printed(*two_linear()) ==
        line("Sequential", "32") + line("  0: Linear(3 -> 5)  weight [3, 5]  bias [5]", "20") +
            line("  1: Tanh", "0") + line("  2: Linear(5 -> 2)  weight [5, 2]  bias [2]", "12"));
  CHECK(printed(Conv2d(64, 128, 3, {.stride = 2}, false)).ends_with(" 73,728\n"));
  CHECK(printed(Linear(1000, 1233)).ends_with(" 1,234,233\n"));
  CHECK(printed(Dropout(0.25)) == line("Dropout(p 0.25)", "0"));
  CHECK(printed(MaxPool2d(3, 2, 1)) == line("MaxPool2d(kernel 3, stride 2, padding 1)", "0"));
}

TEST_CASE("layers say which input they expect") {
  Linear linear(3, 2);
  check_error([&] { linear(Tensor::ones({2, 4})); }, {"linear", "[2, 4]", "3"});
  MultiHeadAttention attention(8, 2);
  check_error([&] { attention(Tensor::ones({2, 4, 6})); }, {"attention", "[2, 4, 6]", "8"});
  check_error([&] { attention(Tensor::ones({4, 8})); }, {"attention", "[4, 8]"});
  check_error([] { MultiHeadAttention(8, 3); }, {"8 dimensions", "3 heads"});
  check_error([] { ResNet(5); }, {"ResNet", "5 stages"});
  check_error([] { Conv2d(4, 4, 3, {.groups = 0}); }, {"Conv2d", "4 -> 4 channels", "0 groups"});
  check_error([] { Conv2d(4, 6, 3, {.groups = 4}); }, {"Conv2d", "4 -> 6 channels", "4 groups"});
  check_error([] { Conv2d(3, 6, 3, {.groups = 2}); }, {"Conv2d", "3 -> 6 channels", "2 groups"});
  check_error([] { Conv2d(3, 0, 3); }, {"Conv2d", "3 -> 0 channels"});
  check_error([] { Conv2d(3, 4, 3, {.stride = 0}); }, {"Conv2d", "stride 0"});
  check_error([] { ChannelAttention(8); }, {"ChannelAttention", "8 channels", "16"});
  check_error([] { ChannelAttention(8, 0); }, {"ChannelAttention", "8 channels", "by 0"});
}
