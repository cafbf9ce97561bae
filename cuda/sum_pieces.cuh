// Long sums, computed by many blocks in pieces and added up by a second kernel in order of index,
// so that the result has the same bits whichever block ends first.
#pragma once

#include <algorithm>

#include "cuda/gpu.h"

namespace chalk::cuda {

// A sum of many steps in pieces of `steps` each; the last one may be shorter.
struct Pieces {
  int count, steps;
};

// So many pieces that `blocks` blocks for each fill a large GPU, of no less than `least` steps. It
// depends on the sizes alone, so that a sum has the same bits on every device.
inline Pieces split_sum(int steps, int blocks, int least) {
  constexpr int blocks_at_once = 264;
  const int wanted = std::max(1, blocks_at_once / std::max(1, blocks));
  const int each = std::max({1, least, (steps + wanted - 1) / wanted});
  return {std::max(1, (steps + each - 1) / each), each};
}

// to[i] = sum over piece of from[piece, i], a thread for each i.
template <typename T>
__global__ void add_up(int pieces, int count, const T* from, T* to) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  double sum = 0;
  for (int piece = 0; piece < pieces; ++piece, from += count)
    sum += from[i];
  to[i] = static_cast<T>(sum);
}

template <typename T>
void sum_pieces(int pieces, int count, const T* from, T* to) {
  launch(add_up<T>, blocks_for(count, 256), 256, 0, pieces, count, from, to);
}

}  // namespace chalk::cuda
