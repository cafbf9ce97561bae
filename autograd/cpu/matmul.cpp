#include "autograd/cpu/matmul.h"

#include "autograd/cpu/matmul_blocked.h"
#include "autograd/cpu/matmul_eigen.h"
#include "autograd/cpu/matmul_loops.h"

namespace chalk::cpu {

template <typename T>
void matmul(Index batch, Index rows, Index inner, Index columns, const T* a, Index a_batch_stride,
            bool transpose_a, const T* b, Index b_batch_stride, bool transpose_b, T* c,
            MatmulRung rung) {
  if (inner == 0) std::fill(c, c + batch * rows * columns, T(0));
  if (batch == 0 || rows == 0 || inner == 0 || columns == 0) return;
  const auto compute = rung == MatmulRung::loops   ? matmul_loops<T>
                       : rung == MatmulRung::eigen ? matmul_eigen<T>
                                                   : matmul_blocked<T>;
  compute(batch, rows, inner, columns, a, a_batch_stride, transpose_a, b, b_batch_stride,
          transpose_b, c);
}

template void matmul(Index, Index, Index, Index, const float*, Index, bool, const float*, Index,
                     bool, float*, MatmulRung);
template void matmul(Index, Index, Index, Index, const double*, Index, bool, const double*, Index,
                     bool, double*, MatmulRung);

}  // namespace chalk::cpu
