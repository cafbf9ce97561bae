// One step of an optimiser for all parameters, 96 of them in a launch: one by one, the FER
// network's 81 would be 81 launches, most of them for less work than a launch costs.
#pragma once

#include <vector>

#include "cuda/elementwise.cuh"
#include "cuda/tensors.h"
#include "cuda/workspace.h"

namespace chalk::cuda {

// A kernel's argument, of 4 KB at most: the arrays of each parameter, and the first of the blocks
// that work on it. `first` and `second` are what the optimiser keeps for it: m and v of AdamW;
// SGD's velocity (nullptr without momentum) and nothing.
template <typename T>
struct Parameters {
  static constexpr int most = 96, elements_of_block = 4096;
  int parameters = 0, blocks = 0;
  const T* grad[most];
  T *first[most], *second[most], *w[most];
  int count[most], first_block[most];

  void add(const T* gradient, T* first_kept, T* second_kept, T* parameter, int elements) {
    const int i = parameters++;
    grad[i] = gradient;
    first[i] = first_kept;
    second[i] = second_kept;
    w[i] = parameter;
    count[i] = elements;
    first_block[i] = blocks;
    blocks += static_cast<int>(blocks_for(elements, elements_of_block));
  }
};

// Which elements this block works on, of which parameter.
struct BlockPart {
  int parameter, begin, end;
};

template <typename T>
__device__ BlockPart part_of_block(const Parameters<T>& all) {
  const int block = static_cast<int>(blockIdx.x);
  int low = 0, high = all.parameters;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (all.first_block[middle] <= block)
      low = middle;
    else
      high = middle;
  }
  const int begin = (block - all.first_block[low]) * all.elements_of_block;
  return {low, begin, min(begin + all.elements_of_block, all.count[low])};
}

// g = grad + weight_decay w;  velocity = momentum velocity + g;  w -= lr velocity
// Without a velocity:  w -= lr g
template <typename T>
__global__ void sgd_step_kernel(SgdStep options, const double* learning_rate, Parameters<T> all) {
  const BlockPart part = part_of_block(all);
  const T lr = static_cast<T>(*learning_rate), momentum = static_cast<T>(options.momentum);
  const T decay = static_cast<T>(options.weight_decay);
  const T* grad = all.grad[part.parameter];
  T *velocity = all.first[part.parameter], *w = all.w[part.parameter];
  for (int i = part.begin + static_cast<int>(threadIdx.x); i < part.end; i += blockDim.x) {
    T step = grad[i] + decay * w[i];
    if (velocity != nullptr) velocity[i] = step = momentum * velocity[i] + step;
    w[i] -= lr * step;
  }
}

// What AdamW multiplies with in one step of one parameter.
template <typename T>
struct AdamWFactors {
  T kept, rate, root;  // 1 - lr weight_decay, lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
};

struct ParameterNumbers {
  int count = 0;
  int of[Parameters<float>::most];
};

// t = ++steps[number of parameter i], and its factors: a thread a parameter.
template <typename T>
__global__ void adamw_factors_kernel(AdamWStep options, const double* learning_rate,
                                     ParameterNumbers numbers, std::int64_t* steps,
                                     AdamWFactors<T>* factors) {
  const int i = thread_of_grid();
  if (i >= numbers.count) return;
  const double lr = *learning_rate, t = static_cast<double>(++steps[numbers.of[i]]);
  factors[i] = {static_cast<T>(1 - lr * options.weight_decay),
                static_cast<T>(lr / (1 - pow(options.beta1, t))),
                static_cast<T>(1 / sqrt(1 - pow(options.beta2, t)))};
}

// m = beta1 m + (1 - beta1) grad;  v = beta2 v + (1 - beta2) grad^2
// w = (1 - lr weight_decay) w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
template <typename T>
__global__ void adamw_step_kernel(AdamWStep options, const AdamWFactors<T>* factors,
                                  Parameters<T> all) {
  const BlockPart part = part_of_block(all);
  const AdamWFactors<T> factor = factors[part.parameter];
  const T beta1 = static_cast<T>(options.beta1), new1 = static_cast<T>(1 - options.beta1);
  const T beta2 = static_cast<T>(options.beta2), new2 = static_cast<T>(1 - options.beta2);
  const T eps = static_cast<T>(options.eps);
  const T* grad = all.grad[part.parameter];
  T *m = all.first[part.parameter], *v = all.second[part.parameter], *w = all.w[part.parameter];
  for (int i = part.begin + static_cast<int>(threadIdx.x); i < part.end; i += blockDim.x) {
    m[i] = beta1 * m[i] + new1 * grad[i];
    v[i] = beta2 * v[i] + new2 * grad[i] * grad[i];
    w[i] = factor.kept * w[i] - factor.rate * m[i] / (sqrt(v[i]) * factor.root + eps);
  }
}

// Those parameters that have a gradient, of the ones from `next` on, as many as a launch takes.
// `next` moves on behind them. What an undefined tensor of `first` would hold is nullptr.
template <typename T>
Parameters<T> next_parameters(std::size_t& next, const std::vector<Tensor>& grad,
                              std::vector<Tensor>& first, std::vector<Tensor>* second,
                              std::vector<Tensor>& w, ParameterNumbers& numbers) {
  Parameters<T> all;
  numbers.count = 0;
  for (; next < w.size() && all.parameters < all.most; ++next) {
    if (!grad[next].defined()) continue;
    all.add(in<T>(grad[next]), out_if_defined<T>(first[next]),
            second != nullptr ? out<T>((*second)[next]) : nullptr, out<T>(w[next]),
            to_int(w[next].numel()));
    numbers.of[numbers.count++] = static_cast<int>(next);
  }
  return all;
}

template <typename T>
void sgd_step(const SgdStep& options, const double* lr, const std::vector<Tensor>& grad,
              std::vector<Tensor>& velocity, std::vector<Tensor>& w) {
  ParameterNumbers numbers;
  for (std::size_t next = 0; next < w.size();) {
    const auto all = next_parameters<T>(next, grad, velocity, nullptr, w, numbers);
    launch(sgd_step_kernel<T>, static_cast<unsigned>(all.blocks), elementwise_threads, 0, options,
           lr, all);
  }
}

template <typename T>
void adamw_step(const AdamWStep& options, const double* lr, const std::vector<Tensor>& grad,
                std::int64_t* steps, std::vector<Tensor>& m, std::vector<Tensor>& v,
                std::vector<Tensor>& w) {
  ParameterNumbers numbers;
  for (std::size_t next = 0; next < w.size();) {
    const auto all = next_parameters<T>(next, grad, m, &v, w, numbers);
    Workspace workspace;
    auto* factors = workspace.take<AdamWFactors<T>>(all.parameters);
    launch(adamw_factors_kernel<T>, blocks_for(numbers.count, 32), 32, 0, options, lr, numbers,
           steps, factors);
    launch(adamw_step_kernel<T>, static_cast<unsigned>(all.blocks), elementwise_threads, 0, options,
           factors, all);
  }
}

}  // namespace chalk::cuda
