// Matrix products, second rung: by Eigen (eigen.tuxfamily.org), whose headers are compiled in
// matmul_eigen.cpp alone.
#pragma once

#include "autograd/shape.h"

namespace chalk::cpu {

// One matrix in memory, [rows, columns], each row `stride` numbers behind the one before.
template <typename T>
struct MatrixView {
  T* data;
  Index rows, columns, stride;
};

// c = op(a) op(b), or c += that if `add`; op = transposition where the flag is set. On the calling
// thread alone.
template <typename T>
void eigen_product(const MatrixView<const T>& a, bool transpose_a, const MatrixView<const T>& b,
                   bool transpose_b, bool add, const MatrixView<T>& c);

// See matmul(); no size is 0.
template <typename T>
void matmul_eigen(Index batch, Index rows, Index inner, Index columns, const T* a,
                  Index a_batch_stride, bool transpose_a, const T* b, Index b_batch_stride,
                  bool transpose_b, T* c);

}  // namespace chalk::cpu
