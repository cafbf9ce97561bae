// CUDA's C++ for a plain C++ compiler: keywords, vector types, what a kernel may call.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "cuda/on_cpu/runtime.h"
#include "cuda/on_cpu/warp.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static  // one block runs at a time, so one of each is enough
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __restrict__ __restrict

// Vectors lie at multiples of their size, as CUDA wants them; UndefinedBehaviourSanitizer checks
// it.
struct __attribute__((may_alias, aligned(8))) float2 {
  float x, y;
};
struct __attribute__((may_alias, aligned(16))) float4 {
  float x, y, z, w;
};
struct __attribute__((may_alias, aligned(16))) double2 {
  double x, y;
};
struct __attribute__((may_alias, aligned(8))) int2 {
  int x, y;
};
struct __attribute__((may_alias, aligned(16))) int4 {
  int x, y, z, w;
};
struct __attribute__((may_alias, aligned(4))) uchar4 {
  unsigned char x, y, z, w;
};
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
inline double2 make_double2(double x, double y) {
  return {x, y};
}
inline int2 make_int2(int x, int y) {
  return {x, y};
}
inline int4 make_int4(int x, int y, int z, int w) {
  return {x, y, z, w};
}
inline uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w) {
  return {x, y, z, w};
}

using std::max;
using std::min;

inline float rsqrtf(float x) {
  return 1 / std::sqrt(x);
}
inline double rsqrt(double x) {
  return 1 / std::sqrt(x);
}
inline int __popc(unsigned x) {
  return std::popcount(x);
}
inline std::uint32_t __float_as_uint(float x) {
  return std::bit_cast<std::uint32_t>(x);
}
inline float __uint_as_float(std::uint32_t x) {
  return std::bit_cast<float>(x);
}
template <typename T>
T __ldg(const T* address) {
  return *address;
}

namespace chalk::cuda {

// Small, so that little has to be closed to the host; under AddressSanitizer every block is a
// region of its own, with exact bounds.
constexpr std::int64_t region_size() {
  return on_cpu::address_sanitizer ? 0 : std::int64_t{64} << 20;
}

// The block's shared memory whose size the launch says.
template <typename T>
T* dynamic_shared() {
  return static_cast<T*>(on_cpu::block_shared_memory());
}

}  // namespace chalk::cuda
