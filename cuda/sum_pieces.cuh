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

// to[i] = sum over piece of from[piece, i], with blocks of (elements, groups) threads. Thread (e,
// g) adds up every groups-th piece of an element from piece g on, thread (e, 0) what the groups
// have, in their order. Unrolled, since loads that don't wait for one another are on their way at
// once.
template <typename T>
__global__ void add_up(int pieces, int count, const T* from, T* to) {
  double* sums = dynamic_shared<double>();  // [groups, elements]
  const int elements = blockDim.x, groups = blockDim.y, e = threadIdx.x, group = threadIdx.y;
  const int i = blockIdx.x * elements + e;
  double sum = 0;
  if (i < count) {
    from += group * count + i;
#pragma unroll 8
    for (int piece = group; piece < pieces; piece += groups, from += groups * count)
      sum += *from;
  }
  sums[group * elements + e] = sum;
  __syncthreads();
  if (group > 0 || i >= count) return;
  for (int other = 1; other < groups; ++other)
    sum += sums[other * elements + e];
  to[i] = static_cast<T>(sum);
}

// As many groups as fill a large GPU, up to 8, each of 8 pieces or more.
template <typename T>
void sum_pieces(int pieces, int count, const T* from, T* to) {
  constexpr int threads = 256, threads_at_once = 132 * 2048;
  int groups = 1;
  while (groups < 8 && groups * 16 <= pieces && Index{groups} * count < threads_at_once)
    groups *= 2;
  const dim3 block(threads / groups, groups);
  launch(add_up<T>, blocks_for(count, threads / groups), block, threads * sizeof(double), pieces,
         count, from, to);
}

}  // namespace chalk::cuda
