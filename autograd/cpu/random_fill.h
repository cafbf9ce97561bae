// Tensors of random numbers, element i from number counter + i of a stream (see Generator).
#pragma once

#include <numbers>

#include "autograd/cpu/elementwise.h"

namespace chalk::cpu {

// y_i in [0, 1): number counter + i, rounded down to 24 bits for float32, lest it become 1.
template <typename T>
void uniform(Index count, std::uint64_t seed, std::uint64_t counter, T* y) {
  constexpr double digits = sizeof(T) == 4 ? 0x1p24 : 0x1p53;
  for_each_element(count, [=](Index i) {
    const double u = Generator::uniform_at(seed, counter + static_cast<std::uint64_t>(i));
    y[i] = static_cast<T>(std::floor(u * digits) / digits);
  });
}

// y_i = sqrt(-2 log(1 - u1)) cos(2 pi u2) with u1, u2 the numbers 2 (counter + i) and the next:
// Box and Muller, 1958. 1 - u1 is never 0.
template <typename T>
void normal(Index count, std::uint64_t seed, std::uint64_t counter, T* y) {
  for_each_element(count, [=](Index i) {
    const std::uint64_t pair = 2 * (counter + static_cast<std::uint64_t>(i));
    const double u1 = Generator::uniform_at(seed, pair);
    const double u2 = Generator::uniform_at(seed, pair + 1);
    y[i] = static_cast<T>(std::sqrt(-2 * std::log(1 - u1)) * std::cos(2 * std::numbers::pi * u2));
  });
}

// mask_i = 0 with probability p, else 1 / (1 - p)
template <typename T>
void dropout_mask(Index count, double p, std::uint64_t seed, std::uint64_t counter, T* mask) {
  const T kept = static_cast<T>(1 / (1 - p));
  for_each_element(count, [=](Index i) {
    const double u = Generator::uniform_at(seed, counter + static_cast<std::uint64_t>(i));
    mask[i] = u < p ? 0 : kept;
  });
}

}  // namespace chalk::cpu
