// Matrix products, first rung: the definition, a thread for each element of C.
#pragma once

#include "cuda/gpu.h"

namespace chalk::cuda {

// A factor as every rung sees it, transposed or not: a matrix [rows, depth] for each product. Of
// A the rows are those of C, of B they are the columns of C.
template <typename T>
struct Factor {
  const T* start;
  int batch_stride, row_stride, depth_stride;

  // Whether memory has consecutive depths together; else it has consecutive rows together.
  constexpr bool along_depth() const { return depth_stride == 1; }
  __device__ const T* at(int n, int row, int depth) const {
    return start + n * batch_stride + row * row_stride + depth * depth_stride;
  }
};

// C[n] [rows, columns] = sum over depth k < inner of a(n, row, k) b(n, column, k), for n < batch.
template <typename T>
struct MatrixProduct {
  int batch, rows, inner, columns;
  Factor<T> a, b;
  T* c;
};

template <typename T>
__global__ void matmul_naive_kernel(MatrixProduct<T> p) {
  const int element = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (element >= p.batch * p.rows * p.columns) return;
  const int column = element % p.columns, row = element / p.columns % p.rows,
            n = element / p.columns / p.rows;
  T sum = 0;
  for (int k = 0; k < p.inner; ++k)
    sum += *p.a.at(n, row, k) * *p.b.at(n, column, k);
  p.c[element] = sum;
}

// Neighbouring threads read neighbouring columns of B, in one access to memory, and the same
// element of A. But all told, memory is asked for 2 numbers for each multiplication.
template <typename T>
void matmul_naive(const MatrixProduct<T>& p) {
  launch(matmul_naive_kernel<T>, blocks_for(p.batch * p.rows * p.columns, 256), 256, 0, p);
}

}  // namespace chalk::cuda
