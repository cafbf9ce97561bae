// chalk's side of conv_benchmark.py: reads a task a line, runs it for some milliseconds, answers
// with the median time of one run in milliseconds.
//
//   threads COUNT
//   forward|input|weight BATCH HEIGHT WIDTH IN KERNEL OUT STRIDE PADDING GROUPS RUNG
//   packed ...             forward with a packed weight
//   matmul BATCH ROWS INNER COLUMNS TRANSPOSE_A TRANSPOSE_B RUNG
#include "autograd/cpu/ladders.h"
#include "tests/benchmark/benchmark.h"

using namespace chalk;

namespace {

// Numbers on huge pages, as chalk's tensors are.
struct Numbers {
  cpu::Memory memory;

  explicit Numbers(Index count) : memory(cpu::allocate_memory(count * sizeof(float))) {
    for (Index i = 0; i < count; ++i)
      data()[i] = static_cast<float>(i * 7919 % 2048) / 1024 - 1;
  }
  float* data() const { return reinterpret_cast<float*>(memory.get()); }
};

double median_ms(const std::function<void()>& run) {
  const std::vector<double> times = sorted_times(run, 3, 10);
  return times[times.size() / 2];
}

double time_convolution(const std::string& pass) {
  Conv2dSizes s{};
  std::string rung_name;
  std::cin >> s.batch >> s.height >> s.width >> s.in_channels >> s.kernel_height >>
      s.out_channels >> s.stride >> s.padding >> s.groups >> rung_name;
  s.kernel_width = s.kernel_height;
  const cpu::ConvRung rung = cpu::conv_rung_named(rung_name);
  const Numbers x(s.batch * s.height * s.width * s.in_channels);
  const Numbers weight(s.kernel_height * s.kernel_width * s.in_channels / s.groups *
                       s.out_channels);
  const Numbers y(s.batch * s.out_height() * s.out_width() * s.out_channels);
  if (pass == "input") {
    return median_ms(
        [&] { cpu::conv2d_backward_input(s, y.data(), weight.data(), x.data(), rung); });
  }
  if (pass == "weight") {
    return median_ms(
        [&] { cpu::conv2d_backward_weight(s, x.data(), y.data(), weight.data(), rung); });
  }
  const auto packed = cpu::pack_weights(s, weight.data(), rung);
  return median_ms([&] {
    cpu::conv2d_forward(s, x.data(), weight.data(), y.data(), rung,
                        pass == "packed" ? &packed : nullptr);
  });
}

double time_matmul() {
  Index batch, rows, inner, columns;
  bool transpose_a, transpose_b;
  std::string rung_name;
  std::cin >> batch >> rows >> inner >> columns >> transpose_a >> transpose_b >> rung_name;
  const cpu::MatmulRung rung = cpu::matmul_rung_named(rung_name);
  const Numbers a(batch * rows * inner), b(batch * inner * columns), c(batch * rows * columns);
  return median_ms([&] {
    cpu::matmul(batch, rows, inner, columns, a.data(), rows * inner, transpose_a, b.data(),
                inner * columns, transpose_b, c.data(), rung);
  });
}

}  // namespace

int main() {
  answer_tasks([](const std::string& task) {
    return task == "matmul" ? time_matmul() : time_convolution(task);
  });
}
