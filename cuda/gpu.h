// What every kernel file includes: CUDA's language, the instructions that C++ has no words for, and
// launch().
//
// nvcc has the language from its toolkit. A plain C++ compiler has it from on_cpu/, which runs the
// same kernels on the CPU: see docs/cuda_without_gpu.md. Here and in runtime.h, nowhere else,
// chalk tells the two apart.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__

#include <cuda_runtime.h>

namespace chalk::cuda {

// Bytes that the allocator takes from the driver at a time: a train step of the FER network needs
// about 0.7 GiB.
constexpr std::int64_t region_size() {
  return std::int64_t{1} << 30;
}

// The block's shared memory whose size the launch says: of that many bytes, from a multiple of 16.
template <typename T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char bytes[];
  return reinterpret_cast<T*>(bytes);
}

// Copies 16 bytes, or 4, from global to shared memory in the background, past the registers; where
// not `valid` it writes zeros and reads nothing. Both addresses are multiples of the size.
__device__ __forceinline__ void cp_async16(void* to, const void* from, bool valid = true) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
               "r"(valid ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void cp_async4(void* to, const void* from, bool valid = true) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from),
               "r"(valid ? 4 : 0)
               : "memory");
}

// Ends a group of copies; waits until all groups of this thread but the `newest` are there. What
// other threads copied is there only after a __syncthreads() besides.
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int newest>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(newest) : "memory");
}

// d += a b by the warp's tensor core, a [16, 8], b [8, 8], d [16, 8]; of a and b it sees the bits
// of TF32, 8 of exponent and 10 of mantissa. Lane 4 g + t holds, in this order,
//   a (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)        b (t, g), (t + 4, g)
//   d (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1)
// PTX ISA, "Matrix fragments for mma.m16n8k8".
__device__ __forceinline__ void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4],
                                         const std::uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace chalk::cuda

#else
#include "cuda/on_cpu/language.h"
#include "cuda/on_cpu/tensor_core.h"
#endif

#include "cuda/runtime.h"

namespace chalk::cuda {

// Runs kernel(arguments...) on the current device's stream: a grid of blocks of threads, each block
// with `shared` bytes of dynamic shared memory. An empty grid has nothing to do.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
            const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  constexpr std::size_t granted_unasked = 48 << 10;
  if (shared > granted_unasked)
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared)));
#ifdef __CUDACC__
  kernel<<<grid, block, shared, stream()>>>(static_cast<Parameters>(arguments)...);
#else
  on_cpu::launch<Parameters...>(kernel, grid, block, shared, stream(), arguments...);
#endif
  check_launch();
}

// How many blocks of `each` threads have a thread for each of `count` elements.
inline unsigned blocks_for(int count, int each) {
  return static_cast<unsigned>((static_cast<std::int64_t>(count) + each - 1) / each);
}

// x as the tensor core takes it, rounded to the 10 bits of mantissa that it sees. The core cuts off
// 13 bits, so the factor 1 + 2.9 / 2^13 makes up for what that loses on average; numbers that have
// no more than 10 bits stay as they are, NaN and infinity too.
__device__ __forceinline__ std::uint32_t to_tf32(float x) {
  return __float_as_uint(x * 1.000352f);
}

}  // namespace chalk::cuda
