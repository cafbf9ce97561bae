// The barriers and the operations in which the 32 threads of a warp, its lanes, exchange values.
//
// Each names the line it is called from, so that a report can say where threads wait.
#pragma once

#include <cstring>

#include "cuda/on_cpu/block.h"

inline constexpr int warpSize = 32;

namespace chalk::cuda::on_cpu {

// Gives every lane the value of the lane it asks for; of one that is not there it gets NaN.
template <typename T>
T shuffle(unsigned mask, T value, int source, const Site& site) {
  struct Operands {
    T in, out;
    int source;
  } mine{value, value, source};
  block().collective(mask, &mine, site, [](void** all) {
    for (int lane = 0; lane < Block::lanes; ++lane) {
      auto* to = static_cast<Operands*>(all[lane]);
      if (to == nullptr) continue;
      if (const auto* from = static_cast<Operands*>(all[to->source & (Block::lanes - 1)]))
        to->out = from->in;
      else
        std::memset(&to->out, 0xff, sizeof(T));
    }
  });
  return mine.out;
}

// A bit for every lane whose predicate is not 0.
inline unsigned ballot(unsigned mask, int predicate, const Site& site) {
  struct Operands {
    int predicate;
    unsigned bits;
  } mine{predicate, 0};
  block().collective(mask, &mine, site, [](void** all) {
    unsigned bits = 0;
    for (int lane = 0; lane < Block::lanes; ++lane)
      if (all[lane] != nullptr && static_cast<Operands*>(all[lane])->predicate != 0)
        bits |= 1u << lane;
    for (int lane = 0; lane < Block::lanes; ++lane)
      if (all[lane] != nullptr) static_cast<Operands*>(all[lane])->bits = bits;
  });
  return mine.bits;
}

}  // namespace chalk::cuda::on_cpu

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  chalk::cuda::on_cpu::block().barrier({"__syncthreads", file, line});
}

inline void __syncwarp(unsigned mask = ~0u, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  chalk::cuda::on_cpu::block().collective(
      mask, nullptr, {"__syncwarp", file, line}, [](void**) {}, true);
}

// A width below 32 cuts the warp in parts that exchange among themselves. A lane that asks beyond
// its part gets its own value; only __shfl_xor_sync reaches the parts before it (PTX ISA, "shfl").
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const int first = chalk::cuda::on_cpu::block().lane() & ~(width - 1);
  return chalk::cuda::on_cpu::shuffle(mask, value, first + (source & (width - 1)),
                                      {"__shfl_sync", file, line});
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = warpSize,
                  const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const int lane = chalk::cuda::on_cpu::block().lane(), other = lane ^ bits;
  const bool not_after_part = other <= (lane | (width - 1));
  return chalk::cuda::on_cpu::shuffle(mask, value, not_after_part ? other : lane,
                                      {"__shfl_xor_sync", file, line});
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, int distance, int width = warpSize,
                   const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const int lane = chalk::cuda::on_cpu::block().lane();
  const bool same_part = lane % width + distance < width;
  return chalk::cuda::on_cpu::shuffle(mask, value, same_part ? lane + distance : lane,
                                      {"__shfl_down_sync", file, line});
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, int distance, int width = warpSize,
                 const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const int lane = chalk::cuda::on_cpu::block().lane();
  const bool same_part = lane % width >= distance;
  return chalk::cuda::on_cpu::shuffle(mask, value, same_part ? lane - distance : lane,
                                      {"__shfl_up_sync", file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  return chalk::cuda::on_cpu::ballot(mask, predicate, {"__ballot_sync", file, line});
}
inline int __any_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                      int line = __builtin_LINE()) {
  return chalk::cuda::on_cpu::ballot(mask, predicate, {"__any_sync", file, line}) != 0;
}
inline int __all_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                      int line = __builtin_LINE()) {
  return chalk::cuda::on_cpu::ballot(mask, predicate == 0, {"__all_sync", file, line}) == 0;
}
