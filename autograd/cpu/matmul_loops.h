// Matrix products, first rung: the definition as three loops. Every other rung is held equal to it.
#pragma once

#include "autograd/cpu/parallel.h"

namespace chalk::cpu {

// C[n][i][j] = sum over k of op(A[n])[i][k] op(B[n])[k][j]; see matmul().
template <typename T>
void matmul_loops(Index batch, Index rows, Index inner, Index columns, const T* a,
                  Index a_batch_stride, bool transpose_a, const T* b, Index b_batch_stride,
                  bool transpose_b, T* c) {
  parallel_for(batch * rows, [&](Index row) {
    const T* a_n = a + row / rows * a_batch_stride;
    const T* b_n = b + row / rows * b_batch_stride;
    const Index i = row % rows;
    for (Index j = 0; j < columns; ++j) {
      T sum = 0;
      for (Index k = 0; k < inner; ++k) {
        sum += a_n[transpose_a ? k * rows + i : i * inner + k] *
               b_n[transpose_b ? j * inner + k : k * columns + j];
      }
      c[row * columns + j] = sum;
    }
  });
}

}  // namespace chalk::cpu
