// Tensors of random numbers, element i from number counter + i of a stream (see Generator): the
// CPU's numbers, to the bit where only integers and exact fractions make them.
//
// A recorded step must not draw the same numbers at every replay, so the counter moves on by
// *base, which lies on the device and is 0 outside of replays.
#pragma once

#include <numbers>

#include "autograd/random.h"
#include "cuda/elementwise.cuh"

namespace chalk::cuda {

struct RandomStream {
  std::uint64_t seed, counter;
  const std::uint64_t* base;

  __device__ double uniform(std::uint64_t number) const {
    return Generator::uniform_at(seed, counter + *base + number);
  }
};

// y_i in [0, 1), rounded down to 24 bits for float32, lest it become 1
template <typename T>
__global__ void uniform_kernel(int count, RandomStream stream, T* y) {
  constexpr double digits = sizeof(T) == 4 ? 0x1p24 : 0x1p53;
  const int i = thread_of_grid();
  if (i < count)
    y[i] = static_cast<T>(floor(stream.uniform(static_cast<std::uint64_t>(i)) * digits) / digits);
}

template <typename T>
void uniform(Index count, std::uint64_t seed, std::uint64_t counter, T* y) {
  launch_elements(uniform_kernel<T>, count, RandomStream{seed, counter, random_base()}, y);
}

// y_i = sqrt(-2 log(1 - u1)) cos(2 pi u2) with u1, u2 the numbers 2 i and 2 i + 1 behind the
// stream's counter: Box and Muller, 1958
template <typename T>
__global__ void normal_kernel(int count, RandomStream stream, T* y) {
  const int i = thread_of_grid();
  if (i >= count) return;
  const std::uint64_t pair = 2 * static_cast<std::uint64_t>(i);
  const double u1 = stream.uniform(pair), u2 = stream.uniform(pair + 1);
  y[i] = static_cast<T>(sqrt(-2 * log(1 - u1)) * cos(2 * std::numbers::pi * u2));
}

template <typename T>
void normal(Index count, std::uint64_t seed, std::uint64_t counter, T* y) {
  launch_elements(normal_kernel<T>, count, RandomStream{seed, 2 * counter, random_base()}, y);
}

// mask_i = 0 with probability p, else kept = 1 / (1 - p)
template <typename T>
__global__ void dropout_mask_kernel(int count, double p, T kept, RandomStream stream, T* mask) {
  const int i = thread_of_grid();
  if (i < count) mask[i] = stream.uniform(static_cast<std::uint64_t>(i)) < p ? 0 : kept;
}

template <typename T>
void dropout_mask(Index count, double p, std::uint64_t seed, std::uint64_t counter, T* mask) {
  launch_elements(dropout_mask_kernel<T>, count, p, static_cast<T>(1 / (1 - p)),
                  RandomStream{seed, counter, random_base()}, mask);
}

}  // namespace chalk::cuda
