// chalk's side of cuda_bench.py: reads a task a line, answers with a line of JSON. Times are taken
// by the host's clock round many calls that the device has finished, median of several such spans.
//
//   device                        what it is
//   rates                         what it can do at most: bytes, FLOP and launches a second
//   train BATCH SIZE              steps of the FER network on random images: ms of one, kernels and
//   evaluate BATCH SIZE           copies in one, peak of memory; CHALK_GRAPH=0: not recorded
//   losses DEVICE BATCH SIZE STEPS      of a training on random images that is the same everywhere
//   conv RUNG PASS BATCH HEIGHT WIDTH IN KERNEL OUT STRIDE PADDING GROUPS      us of a call; PASS
//   is
//                                                                 forward, input or weight
//   matmul RUNG TF32 BATCH ROWS INNER COLUMNS                     likewise
//   map KERNEL BATCH SIDE CHANNELS     a pass over feature maps, see map_kernels
//   adamw                         of the FER network's parameters
//
// Emulated devices have no times, so the program refuses them; with --try it does a task's work
// once, there too, and answers without times.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "autograd/node.h"
#include "cuda/ladders.h"
#include "examples/fer/fer_net.h"
#include "optim/captured_step.h"
#include "optim/optimizer.h"

using namespace chalk;
using nlohmann::json;

namespace {

bool trying = false;  // --try

// ---- time ----

void wait_for_device() {
  static const Tensor something = Tensor::zeros({1}, DType::float32, Device::cuda);
  something.item();  // the one stream has come to it
}

// Microseconds of `count` runs, the device's part included.
double span_us(const std::function<void()>& run, int count) {
  wait_for_device();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < count; ++i)
    run();
  wait_for_device();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
      .count();
}

// Of one run, the median of 7 spans of at least about 20 ms; NaN where there are no times.
double microseconds(const std::function<void()>& run) {
  run();
  const double once = span_us(run, 1);
  if (trying) return NAN;
  const int count = static_cast<int>(std::clamp(2e4 / once, 1.0, 1e4));
  std::vector<double> spans(7);
  for (double& span : spans)
    span = span_us(run, count) / count;
  std::sort(spans.begin(), spans.end());
  return spans[spans.size() / 2];
}

// Of call(0), call(1), .., recorded, so that the host's time does not count: its calls use tensors
// of their own, lest all of them lie in the device's cache.
json time_calls(int copies, const std::function<void(int)>& call) {
  const auto all = [&] {
    for (int i = 0; i < copies; ++i)
      call(i);
  };
  const auto recorder = make_recorder(Device::cuda);
  recorder->warm_up(all);
  recorder->record(all);
  return {{"us", microseconds([&] { recorder->replay(0); }) / copies},
          {"launches", static_cast<double>(recorder->launches()) / copies}};
}

// How many sets of tensors, of so many elements each, are more than a cache holds.
int copies_of(Index elements) {
  constexpr Index more_than_a_cache = 160 << 20;
  const Index bytes = std::max<Index>(1, elements * 4);
  return trying ? 1 : static_cast<int>(std::clamp<Index>(more_than_a_cache / bytes, 2, 12));
}

Tensor random(const Shape& shape) {
  return Tensor::randn(shape, default_generator(), DType::float32, Device::cuda);
}

Tensor empty(const Shape& shape, DType dtype = DType::float32) {
  return Tensor(shape, dtype, Device::cuda);
}

Backend& kernels() {
  return backend(Device::cuda, DType::float32);
}

template <typename T>
T read() {
  T value;
  check(static_cast<bool>(std::cin >> value), "a task lacks an argument");
  return value;
}

// ---- what the device can do ----

template <typename Rung>
Rung rung_named(const std::string& name, const std::vector<std::string_view>& names) {
  const auto found = std::find(names.begin(), names.end(), name);
  check(found != names.end(), "there is no rung ", name);
  return static_cast<Rung>(found - names.begin());
}

json time_matmul(const std::string& rung, bool tf32, Index batch, Index rows, Index inner,
                 Index columns) {
  cuda::set_matmul_rung(rung_named<cuda::MatmulRung>(rung, cuda::matmul_rung_names()));
  cuda::set_tf32(true, tf32);
  const Tensor a = random({batch, rows, inner}), b = random({batch, inner, columns});
  Tensor y = empty({batch, rows, columns});
  return time_calls(1, [&](int) { kernels().matmul(a, false, b, false, y); });
}

// Bytes a second, in GB, of relu from one tensor to another, of so many bytes together.
double pass_rate(Index bytes) {
  const Tensor x = random({bytes / 8});
  Tensor y = empty(x.shape());
  return static_cast<double>(bytes) / 1e3 /
         time_calls(1, [&](int) { kernels().unary(Unary::relu, x, y); })["us"].get<double>();
}

double upload_rate(Index bytes) {
  const Tensor x = Tensor::zeros({bytes / 4});
  Tensor y = empty(x.shape());
  return static_cast<double>(bytes) / 1e3 / microseconds([&] { y.copy_from(x); });
}

json time_rates() {
  const Index n = trying ? 64 : 8192;
  const double flop = 2.0 * static_cast<double>(n * n * n);
  const auto products = [&](const char* rung, bool tf32) {
    return flop / 1e6 / time_matmul(rung, tf32, 1, n, n, n)["us"].get<double>();
  };
  const Index large = trying ? 1 << 12 : 1 << 30, small = trying ? 1 << 12 : 16 << 20;
  constexpr int many = 200;
  Tensor one = empty({1});
  const auto launch = [&](int) { kernels().fill(0, one); };
  const double in_a_stream = microseconds([&] {
    for (int i = 0; i < many; ++i)
      launch(i);
  });
  return {{"memory_gb_s", pass_rate(large)},
          {"cache_gb_s", pass_rate(small)},
          {"upload_gb_s", upload_rate(trying ? 1 << 12 : 64 << 20)},
          {"launch_us", in_a_stream / many},
          {"launch_in_graph_us", time_calls(many, launch)["us"]},
          {"wait_us", microseconds(wait_for_device)},
          {"tf32_tflop_s", products("cublas", true)},
          {"tf32_own_tflop_s", products("tensor", true)},
          {"fp32_tflop_s", products("cublas", false)}};
}

// ---- the FER network ----

class Network {
 public:
  Network(Device device, Index batch, Index size, bool training)
      : images_({batch, size, size, 3}, DType::float32, device),
        labels_({batch}, DType::int64, device) {
    manual_seed(1);
    net_.emplace();
    net_->to(device);
    training ? net_->train() : net_->eval();
    optimizer_.emplace(net_->parameters(), AdamWOptions{.lr = 1e-4});
    captured_.emplace(net_->tensors(), [this, training] { training ? train() : evaluate(); });
    next_batch(0);
  }

  // Other images and labels, one of eight batches.
  void next_batch(int step) {
    Generator generator{static_cast<std::uint64_t>(step % 8), 0};
    std::vector<std::int64_t> labels;
    for (Index i = 0; i < labels_.numel(); ++i)
      labels.push_back((i + step) % 7);
    images_.copy_from(Tensor::rand(images_.shape(), generator));
    labels_.copy_from(Tensor::from(labels, labels_.shape()));
  }

  void run() { captured_->run(); }
  double result() const { return result_.item(); }  // of the last run: its loss, its first logit
  Index launches() const { return captured_->launches(); }

 private:
  void train() {
    const Tensor loss = cross_entropy((*net_)(images_), labels_);
    optimizer_->zero_grad();
    loss.backward();
    optimizer_->step();
    result_ = loss;
  }

  void evaluate() {
    const NoGrad no_grad;
    result_ = slice(reshape((*net_)(images_), {-1}), 0, 0, 1);
  }

  Tensor images_, labels_, result_;
  std::optional<FerNet> net_;
  std::optional<AdamW> optimizer_;
  std::optional<CapturedStep> captured_;
};

json time_network(bool training) {
  const Index batch = read<Index>(), size = read<Index>();
  static std::map<std::tuple<bool, Index, Index>, std::unique_ptr<Network>> networks;
  std::unique_ptr<Network>& network = networks[{training, batch, size}];
  if (network == nullptr) {
    network = std::make_unique<Network>(Device::cuda, batch, size, training);
    for (int i = 0; i < (trying ? 3 : 10); ++i)  // CapturedStep records the third
      network->run();
  }
  constexpr int steps = 20;
  const double us = trying ? NAN : span_us([&] { network->run(); }, steps) / steps;
  return {{"ms", us / 1e3},
          {"launches", network->launches()},
          {"memory_mb", static_cast<double>(cuda_peak_memory()) / (1 << 20)},
          {"result", network->result()}};
}

json losses() {
  const Device device = read<std::string>() == "cpu" ? Device::cpu : Device::cuda;
  const Index batch = read<Index>(), size = read<Index>();
  const int steps = read<int>();
  Network network(device, batch, size, true);
  json losses = json::array();
  for (int step = 0; step < steps; ++step) {
    network.next_batch(step);
    network.run();
    losses.push_back(network.result());
  }
  return {{"losses", losses}};
}

// ---- single kernels ----

json time_convolution() {
  const auto rung = read<std::string>(), pass = read<std::string>();
  Conv2dSizes s{};
  for (Index* size : {&s.batch, &s.height, &s.width, &s.in_channels, &s.kernel_height,
                      &s.out_channels, &s.stride, &s.padding, &s.groups})
    *size = read<Index>();
  s.kernel_width = s.kernel_height;
  cuda::set_conv_rung(rung_named<cuda::ConvRung>(rung, cuda::conv_rung_names()));
  cuda::set_tf32(true, false);
  struct Set {
    Tensor x, weight, y;
  };
  const auto make_set = [&] {
    return Set{random({s.batch, s.height, s.width, s.in_channels}),
               random({s.kernel_height, s.kernel_width, s.in_channels / s.groups, s.out_channels}),
               random({s.batch, s.out_height(), s.out_width(), s.out_channels})};
  };
  std::vector<Set> sets = {make_set()};
  const int copies = copies_of(sets[0].x.numel() + sets[0].y.numel());
  while (static_cast<int>(sets.size()) < copies)
    sets.push_back(make_set());
  return time_calls(copies, [&](int i) {
    Set& set = sets.at(static_cast<std::size_t>(i));
    if (pass == "forward") kernels().conv2d(s, set.x, set.weight, set.y);
    if (pass == "input") kernels().conv2d_backward_input(s, set.y, set.weight, set.x);
    if (pass == "weight") kernels().conv2d_backward_weight(s, set.x, set.y, set.weight);
  });
}

// What the passes over one map [N, side, side, C] read and write.
struct Maps {
  Index batch, side, channels, hidden = channels / 16;
  Shape shape = {batch, side, side, channels};
  Tensor x = random(shape), dy = random(shape), residual = random(shape), y = empty(shape);
  Tensor dx = empty(shape), dresidual = empty(shape);
  Pool2dSizes pool = {batch, side, side, channels, 3, 2, 1};
  Shape pooled_shape = {batch, pool.out_height(), pool.out_width(), channels};
  Tensor pooled = empty(pooled_shape), winner = empty(pooled_shape), dpooled = random(pooled_shape);
  Tensor position = empty(pooled_shape, DType::uint8);
  BatchNormState state = {random({channels}), random({channels})};
  RunningStatistics running = {random({channels}), random({channels})};
  CbamParameters parameters = make_parameters(), dparameters = make_parameters();
  CbamState cbam = {empty({batch, 2, channels}),
                    empty({batch, channels}, DType::int64),
                    empty({batch, channels}),
                    empty({batch, 2, side* side}),
                    empty({batch, side* side}, DType::int64),
                    empty({batch, side* side})};
  CbamSizes sizes = {batch, side, side, channels, hidden};

  CbamParameters make_parameters() const {
    return {random({channels}), random({channels}), random({channels, hidden}),
            random({hidden, channels}), random({7, 7, 2})};
  }
};

// The stem's are those of a map that is pooled; `add` is how two gradients meet.
const std::map<std::string, std::function<void(Maps&)>> map_kernels = {
    {"statistics",
     [](Maps& m) { kernels().batch_norm_statistics(m.x, true, 0.1, 1e-5, m.running, m.state); }},
    {"batch_norm",
     [](Maps& m) {
       kernels().batch_norm(m.x, m.state, m.parameters.gamma, m.parameters.beta, true, m.y);
     }},
    {"batch_norm_backward",
     [](Maps& m) {
       kernels().batch_norm_backward(m.x, m.state, m.parameters.gamma, m.parameters.beta, true,
                                     true, m.dy, m.dx, m.dparameters.gamma, m.dparameters.beta);
     }},
    {"stem",
     [](Maps& m) {
       kernels().batch_norm_max_pool2d(m.pool, m.x, m.state, m.parameters.gamma, m.parameters.beta,
                                       m.pooled, m.winner, m.position);
     }},
    {"stem_backward",
     [](Maps& m) {
       kernels().batch_norm_max_pool2d_backward(
           m.pool, m.x, m.state, m.parameters.gamma, m.parameters.beta, true, m.winner, m.position,
           m.dpooled, m.dx, m.dparameters.gamma, m.dparameters.beta);
     }},
    {"cbam",
     [](Maps& m) {
       kernels().batch_norm_cbam(m.sizes, m.x, m.state, m.parameters, m.residual, m.y, m.cbam);
     }},
    {"cbam_backward",
     [](Maps& m) {
       kernels().batch_norm_cbam_backward(m.sizes, m.x, m.state, m.parameters, true, m.y, m.cbam,
                                          m.dy, m.dx, m.dresidual, m.dparameters);
     }},
    {"add", [](Maps& m) { kernels().binary(Binary::add, m.x, m.dy, m.y); }},
};

json time_map_kernel() {
  const auto kernel = map_kernels.find(read<std::string>());
  const Index batch = read<Index>(), side = read<Index>(), channels = read<Index>();
  check(kernel != map_kernels.end(), "there is no such kernel");
  std::vector<std::unique_ptr<Maps>> maps;
  const int copies = copies_of(2 * batch * side * side * channels);
  while (static_cast<int>(maps.size()) < copies) {
    maps.push_back(std::make_unique<Maps>(Maps{batch, side, channels}));
    for (const char* first : {"statistics", "stem", "cbam"})  // what backward passes need
      map_kernels.at(first)(*maps.back());
  }
  return time_calls(copies, [&](int i) { kernel->second(*maps.at(static_cast<std::size_t>(i))); });
}

json time_adamw() {
  FerNet net;
  net.to(Device::cuda);
  for (Tensor parameter : net.parameters())
    parameter.set_grad(random(parameter.shape()));
  AdamW optimizer(net.parameters());
  return time_calls(1, [&](int) { optimizer.step(); });
}

json answer(const std::string& task) {
  if (task == "device") return {{"name", cuda_description(0)}};
  if (task == "rates") return time_rates();
  if (task == "train" || task == "evaluate") return time_network(task == "train");
  if (task == "losses") return losses();
  if (task == "conv") return time_convolution();
  if (task == "map") return time_map_kernel();
  if (task == "adamw") return time_adamw();
  check(task == "matmul", "there is no task ", task);
  const auto rung = read<std::string>();
  const bool tf32 = read<bool>();
  const Index batch = read<Index>(), rows = read<Index>(), inner = read<Index>();
  return time_matmul(rung, tf32, batch, rows, inner, read<Index>());
}

}  // namespace

int main(int count, char** arguments) {
  trying = count > 1 && std::string_view(arguments[1]) == "--try";
  try {
    cuda_check_device(0);
    const bool emulated = cuda_name(0) != "cuda:0";
    check(!emulated || trying, cuda_name(0), " has no times; --try only tries the tasks");
    std::string task;
    while (std::cin >> task) {
      json line = answer(task);
      if (trying) line["device"] = cuda_name(0) + ": no times";
      std::cout << line << std::endl;
    }
  } catch (const Error& error) {
    std::cerr << "cuda_benchmark: " << error.what() << '\n';
    return 1;
  }
}
