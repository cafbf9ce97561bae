// Matrix products on the CPU, and the choice of the rung that computes them.
#pragma once

#include "autograd/shape.h"

namespace chalk::cpu {

// The ladder: the definition (matmul_loops.h), the library that a course knows (matmul_eigen.h),
// and chalk's own (matmul_blocked.h), the fastest for every shape but the smallest.
enum class MatmulRung { loops, eigen, blocked };

// C[n] = op(A[n]) op(B[n]) for n < batch, op = transposition where the flag is set; T is float or
// double.
//   op(A[n]) is [rows, inner], at a + n * a_batch_stride; op(B[n]) [inner, columns] likewise:
//   a stride of 0 uses one matrix for all. C [batch, rows, columns] is overwritten.
// Every rung gives the same result up to rounding, and the same bits on any number of threads.
template <typename T>
void matmul(Index batch, Index rows, Index inner, Index columns, const T* a, Index a_batch_stride,
            bool transpose_a, const T* b, Index b_batch_stride, bool transpose_b, T* c,
            MatmulRung rung = MatmulRung::blocked);

}  // namespace chalk::cpu
