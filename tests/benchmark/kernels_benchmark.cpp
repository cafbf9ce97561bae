// chalk's side of kernels_benchmark.py: reads a task a line, runs it for some milliseconds,
// answers with the time of the fastest run in milliseconds.
//
//   threads COUNT
//   KERNEL OUTER LENGTH INNER        a kernel of the CPU backend on a float32 tensor of that shape
#include <cmath>
#include <map>

#include "autograd/backend.h"
#include "tests/benchmark/benchmark.h"

using namespace chalk;

namespace {

// The tensors of one shape that the kernels read and write.
struct Bench {
  Backend& backend = chalk::backend(Device::cpu, DType::float32);
  AxisSizes sizes;
  Index rows, channels;
  Tensor x, y, dy, per_image, per_pixel, position, pixel_position, mean, variance, dgamma, dbeta;
  Tensor row_mean, row_inverse_std, m, v;
  Tensor lr = Tensor::full({}, 1e-3, DType::float64), steps = Tensor::zeros({1}, DType::int64);
  Pool2dSizes pool;
  Tensor pooled, pool_position;

  explicit Bench(const AxisSizes& s)
      : sizes(s),
        rows(s.outer * s.length),
        channels(s.inner),
        x(random({s.outer, s.length, s.inner})),
        y(x.shape()),
        dy(random(x.shape())),
        per_image(random({s.outer, 1, s.inner})),
        per_pixel(random({s.outer, s.length, 1})),
        position(per_image.shape(), DType::int64),
        pixel_position(per_pixel.shape(), DType::int64),
        mean(random({s.inner})),
        variance(random({s.inner})),
        dgamma(mean.shape()),
        dbeta(mean.shape()),
        row_mean(random({rows})),
        row_inverse_std(random({rows})),
        m(random(x.shape())),
        v(random(x.shape())),
        pool{s.outer, side(), side(), s.inner, 3, 2, 1},
        pooled(random({s.outer, pool.out_height(), pool.out_width(), s.inner})),
        pool_position(pooled.shape(), DType::uint8) {
    backend.max(sizes, x, per_image, position);
    backend.max_pool2d(pool, x, pooled, pool_position);
  }

  // Uniform in [-0.5, 0.5), since random() is not what is timed and has no negative numbers.
  static Tensor random(const Shape& shape) {
    Tensor result = Tensor::rand(shape);
    float* values = result.mutable_data<float>();
    for (Index i = 0; i < result.numel(); ++i)
      values[i] -= 0.5f;
    return result;
  }

  // A square image of at most `length` pixels.
  Index side() const { return static_cast<Index>(std::sqrt(static_cast<double>(sizes.length))); }

  std::map<std::string, std::function<void()>> kernels() {
    const auto unary = [this](Unary f) { return [this, f] { backend.unary(f, x, y); }; };
    const auto batch_norm = [this](bool with_relu) {
      return [this, with_relu] {
        BatchNormState state{mean, variance};
        RunningStatistics running{dgamma, dbeta, Tensor()};
        backend.batch_norm_statistics(x, true, 0.1, 1e-5, running, state);
        backend.batch_norm(x, state, mean, variance, with_relu, y);
      };
    };
    const auto batch_norm_backward = [this](bool with_relu) {
      return [this, with_relu] {
        backend.batch_norm_backward(x, {mean, variance}, mean, variance, with_relu, true, dy, y,
                                    dgamma, dbeta);
      };
    };
    return {
        {"relu", unary(Unary::relu)},
        {"sigmoid", unary(Unary::sigmoid)},
        {"exp", unary(Unary::exp)},
        {"tanh", unary(Unary::tanh)},
        {"relu_backward", [this] { backend.unary_backward(Unary::relu, x, x, dy, y); }},
        {"add", [this] { backend.binary(Binary::add, x, dy, y); }},
        {"add_bias", [this] { backend.binary(Binary::add, x, mean, y); }},
        {"multiply_image", [this] { backend.binary(Binary::multiply, x, per_image, y); }},
        {"multiply_pixel", [this] { backend.binary(Binary::multiply, x, per_pixel, y); }},
        {"accumulate", [this] { backend.scale_add(1, x, 1, y); }},
        {"sum",
         [this] {
           backend.sum({1, x.numel(), 1}, x, mean);
         }},
        {"sum_pixels", [this] { backend.sum(sizes, x, per_image); }},
        {"sum_channels",
         [this] {
           backend.sum({rows, channels, 1}, x, per_pixel);
         }},
        {"sum_rows",
         [this] {
           backend.sum({1, rows, channels}, x, mean);
         }},
        {"max_pixels", [this] { backend.max(sizes, x, per_image, position); }},
        {"max_channels",
         [this] {
           backend.max({rows, channels, 1}, x, per_pixel, pixel_position);
         }},
        {"max_backward", [this] { backend.max_backward(sizes, position, per_image, y); }},
        {"softmax", [this] { backend.softmax(x, false, y); }},
        {"softmax_backward", [this] { backend.softmax_backward(x, false, dy, y); }},
        {"log_softmax", [this] { backend.softmax(x, true, y); }},
        {"layer_norm",
         [this] { backend.layer_norm(x, mean, variance, 1e-5, y, row_mean, row_inverse_std); }},
        {"layer_norm_backward",
         [this] {
           backend.layer_norm_backward(x, row_mean, row_inverse_std, mean, dy, y, dgamma, dbeta);
         }},
        {"batch_norm", batch_norm(false)},
        {"batch_norm_relu", batch_norm(true)},
        {"batch_norm_backward", batch_norm_backward(false)},
        {"batch_norm_relu_backward", batch_norm_backward(true)},
        {"max_pool", [this] { backend.max_pool2d(pool, x, pooled, pool_position); }},
        {"max_pool_backward",
         [this] { backend.max_pool2d_backward(pool, pool_position, pooled, y); }},
        {"transpose",
         [this] {
           backend.permute(x, {0, 2, 1}, y);
         }},
        {"adamw",
         [this] {
           std::vector<Tensor> moment = {m}, square = {v}, w = {x};
           backend.adamw_step({0.9, 0.999, 1e-8, 0.01}, lr, {dy}, steps, moment, square, w);
         }},
    };
  }
};

}  // namespace

int main() {
  answer_tasks([](const std::string& kernel) {
    AxisSizes sizes{};
    std::cin >> sizes.outer >> sizes.length >> sizes.inner;
    Bench bench(sizes);
    // The fastest of the runs: what else the machine does only ever slows one down.
    return sorted_times(bench.kernels().at(kernel), 5, 20).front();
  });
}
