// One step of an optimiser for one parameter: all arrays have `count` elements; t counts its steps
// from 1.
#pragma once

#include "autograd/cpu/elementwise.h"

namespace chalk::cpu {

// g = grad + weight_decay w;  velocity = momentum velocity + g;  w -= lr velocity
// Without a velocity (nullptr):  w -= lr g
template <typename T>
void sgd_step(const SgdStep& options, double learning_rate, Index count, const T* grad, T* velocity,
              T* w) {
  const T lr = static_cast<T>(learning_rate), momentum = static_cast<T>(options.momentum);
  const T decay = static_cast<T>(options.weight_decay);
  if (velocity == nullptr)
    return for_each_element(count, [=](Index i) { w[i] -= lr * (grad[i] + decay * w[i]); });
  for_each_element(count, [=](Index i) {
    velocity[i] = momentum * velocity[i] + (grad[i] + decay * w[i]);
    w[i] -= lr * velocity[i];
  });
}

// m = beta1 m + (1 - beta1) grad;  v = beta2 v + (1 - beta2) grad^2
// w = (1 - lr weight_decay) w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
template <typename T>
void adamw_step(const AdamWStep& options, double lr, Index step, Index count, const T* grad, T* m,
                T* v, T* w) {
  const double t = static_cast<double>(step);
  const T beta1 = static_cast<T>(options.beta1), new1 = static_cast<T>(1 - options.beta1);
  const T beta2 = static_cast<T>(options.beta2), new2 = static_cast<T>(1 - options.beta2);
  const T kept = static_cast<T>(1 - lr * options.weight_decay);
  const T rate = static_cast<T>(lr / (1 - std::pow(options.beta1, t)));
  const T root = static_cast<T>(1 / std::sqrt(1 - std::pow(options.beta2, t)));
  const T eps = static_cast<T>(options.eps);
  for_each_element(count, [=](Index i) {
    m[i] = beta1 * m[i] + new1 * grad[i];
    v[i] = beta2 * v[i] + new2 * grad[i] * grad[i];
    w[i] = kept * w[i] - rate * m[i] / (std::sqrt(v[i]) * root + eps);
  });
}

}  // namespace chalk::cpu
