// Tensor cores and copies in the background: what gpu.h writes in PTX for a GPU.
#pragma once

#include <algorithm>
#include <bit>

#include "cuda/on_cpu/block.h"

namespace chalk::cuda {

namespace on_cpu {

inline float tf32(std::uint32_t bits) {
  return std::bit_cast<float>(bits & 0xffffe000u);  // the unit does not see 13 bits
}

struct MmaOperands {
  float* d;
  const std::uint32_t *a, *b;
};

// The product of a whole warp, of whose lanes each holds what gpu.h says.
inline void multiply(void** lanes) {
  float a[16][8], b[8][8], d[16][8];
  for (int lane = 0; lane < Block::lanes; ++lane) {
    if (lanes[lane] == nullptr) block().fail(to_string(block().thread().waits) + " needs 32 lanes");
    const auto& in = *static_cast<MmaOperands*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      a[g + 8 * (i % 2)][t + 4 * (i / 2)] = tf32(in.a[i]);
      d[g + 8 * (i / 2)][2 * t + i % 2] = in.d[i];
    }
    for (int i = 0; i < 2; ++i)
      b[t + 4 * i][g] = tf32(in.b[i]);
  }
  for (auto& row : d)
    for (int k = 0; k < 8; ++k)
      for (int column = 0; column < 8; ++column)
        row[column] += a[&row - d][k] * b[k][column];
  for (int lane = 0; lane < Block::lanes; ++lane)
    for (int i = 0; i < 4; ++i)
      static_cast<MmaOperands*>(lanes[lane])->d[i] =
          d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
}

// Until it arrives, what is there is not what was there. The source is read for the sanitizers, so
// that they name this line and not the wait's.
template <typename Word>
void start_copy(void* to, const void* from, bool valid, const Site& site) {
  Thread& thread = block().thread();
  const auto addresses =
      reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from);
  if (addresses % sizeof(Word) != 0) block().fail(to_string(site) + ": an address is not aligned");
  for (float& each : static_cast<Word*>(to)->values)
    each = std::bit_cast<float>(~0u);
  if (valid)
    for (const volatile float& each : static_cast<const Word*>(from)->values)
      static_cast<void>(float{each});
  thread.copies.push_back({to, from, sizeof(Word), valid, thread.group});
}

template <typename Word>
void end_copy(const PendingCopy& copy) {
  *static_cast<Word*>(copy.to) = copy.valid ? *static_cast<const Word*>(copy.from) : Word{};
}

struct __attribute__((may_alias, aligned(16))) Word16 {
  float values[4];
};
struct __attribute__((may_alias, aligned(4))) Word4 {
  float values[1];
};

}  // namespace on_cpu

inline void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                     const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  on_cpu::MmaOperands mine{d, a, b};
  on_cpu::block().collective(~0u, &mine, {"mma_tf32", file, line}, on_cpu::multiply);
}

inline void cp_async16(void* to, const void* from, bool valid = true,
                       const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  on_cpu::start_copy<on_cpu::Word16>(to, from, valid, {"cp_async16", file, line});
}
inline void cp_async4(void* to, const void* from, bool valid = true,
                      const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  on_cpu::start_copy<on_cpu::Word4>(to, from, valid, {"cp_async4", file, line});
}

inline void cp_async_commit() {
  ++on_cpu::block().thread().group;
}

// The bytes arrive here, as late as the rules allow, so that a missing wait shows.
template <int newest>
void cp_async_wait() {
  on_cpu::Thread& thread = on_cpu::block().thread();
  const auto late = std::stable_partition(
      thread.copies.begin(), thread.copies.end(),
      [&](const on_cpu::PendingCopy& copy) { return copy.group >= thread.group - newest; });
  for (auto copy = late; copy != thread.copies.end(); ++copy)
    copy->bytes == 16 ? on_cpu::end_copy<on_cpu::Word16>(*copy)
                      : on_cpu::end_copy<on_cpu::Word4>(*copy);
  thread.copies.erase(late, thread.copies.end());
}

}  // namespace chalk::cuda
