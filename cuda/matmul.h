// Matrix products on CUDA devices, and the choice of the rung that computes them.
#pragma once

#include "autograd/shape.h"

namespace chalk::cuda {

// C[n] = op(A[n]) op(B[n]) for n < batch, op = transposition where the flag is set; T is float or
// double.
//   op(A[n]) is [rows, inner], at a + n * a_batch_stride; op(B[n]) [inner, columns] likewise:
//   a stride of 0 uses one matrix for all. C [batch, rows, columns] is overwritten.
// The rung is matmul_rung() (ladders.h); float factors are rounded to TF32 if tf32_in_products().
template <typename T>
void matmul(Index batch, Index rows, Index inner, Index columns, const T* a, Index a_batch_stride,
            bool transpose_a, const T* b, Index b_batch_stride, bool transpose_b, T* c);

}  // namespace chalk::cuda
