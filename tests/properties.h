// The property test's draws: calls of every operation with random shapes and options, and beside
// each the same computation in plain loops over scalars.
//
// The fixtures hold what somebody thought of; a wrong gradient hides in a shape that nobody did.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "autograd/tensor.h"
#include "tests/scalar.h"

namespace chalk::testing {

using Tensors = std::vector<Tensor>;

// In how many ways chalk can compute a call.
enum class Ladder { none, convolutions, products, fusion };

struct Trial {
  std::string call;        // "conv2d: input [1, 2, 1, 2], weight [1, 1, 1, 4], groups 2"
  Tensors inputs;          // float64, of numbers that float32 holds as well
  std::size_t leaves = 0;  // the first so many inputs need a gradient
  std::function<Tensor(const Tensors&)> operation;
  std::function<Scalars(std::vector<Scalars>&)> plain;  // row-major; changes what `operation` does
  Ladder ladder = Ladder::none;
};

// The trial of this number; always the same.
Trial draw_trial(std::uint64_t seed);

// The names, as in the registry, of all operations that are drawn.
std::vector<std::string> drawn_operations();

}  // namespace chalk::testing
