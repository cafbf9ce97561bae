#include <type_traits>

#include "cuda/ladders.h"
#include "cuda/matmul.h"
#include "cuda/matmul_naive.cuh"
#include "cuda/matmul_tensor.cuh"
#include "cuda/matmul_tiled.cuh"

namespace chalk::cuda {

namespace {

// cuBLAS has the elements of a column together, so that our B, A and C are its B^T, A^T and C^T;
// and C^T = B^T A^T.
template <typename T>
void matmul_cublas(const MatrixProduct<T>& p) {
  constexpr bool is_double = std::is_same_v<T, double>;
  constexpr cudaDataType_t type = is_double ? CUDA_R_64F : CUDA_R_32F;
  const cublasComputeType_t compute = is_double            ? CUBLAS_COMPUTE_64F
                                      : tf32_in_products() ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                           : CUBLAS_COMPUTE_32F;
  const bool a_turned = !p.a.along_depth(), b_turned = p.b.along_depth();
  const T one = 1, zero = 0;
  check_cublas(cublasGemmStridedBatchedEx(
      cublas(), b_turned ? CUBLAS_OP_T : CUBLAS_OP_N, a_turned ? CUBLAS_OP_T : CUBLAS_OP_N,
      p.columns, p.rows, p.inner, &one, p.b.start, type, b_turned ? p.inner : p.columns,
      p.b.batch_stride, p.a.start, type, a_turned ? p.rows : p.inner, p.a.batch_stride, &zero, p.c,
      type, p.columns, p.rows * p.columns, p.batch, compute, CUBLAS_GEMM_DEFAULT));
}

}  // namespace

template <typename T>
void matmul(Index batch, Index rows, Index inner, Index columns, const T* a, Index a_batch_stride,
            bool transpose_a, const T* b, Index b_batch_stride, bool transpose_b, T* c) {
  if (batch == 0 || rows == 0 || columns == 0) return;
  to_int(batch * rows * columns);  // elements are counted by int: all of them must fit
  to_int(std::max(batch * a_batch_stride, rows * inner));
  to_int(std::max(batch * b_batch_stride, inner * columns));
  const int m = to_int(rows), k = to_int(inner), n = to_int(columns);
  const MatrixProduct<T> p{to_int(batch),
                           m,
                           k,
                           n,
                           {a, to_int(a_batch_stride), transpose_a ? 1 : k, transpose_a ? m : 1},
                           {b, to_int(b_batch_stride), transpose_b ? k : 1, transpose_b ? 1 : n},
                           c};
  MatmulRung rung = matmul_rung();
  if (inner == 0) rung = MatmulRung::naive;  // zeros, as the definition has it
  const bool tensor_cores = std::is_same_v<T, float> && tf32_in_products();
  if (rung == MatmulRung::tensor && !tensor_cores) rung = MatmulRung::registers;

  if (rung == MatmulRung::naive) matmul_naive(p);
  if (rung == MatmulRung::tiled) matmul_tiled<T, 1>(p);
  if (rung == MatmulRung::registers) matmul_tiled<T, 4>(p);
  if constexpr (std::is_same_v<T, float>)
    if (rung == MatmulRung::tensor) matmul_tensor(p);
  if (rung == MatmulRung::cublas) matmul_cublas(p);
}

template void matmul(Index, Index, Index, Index, const float*, Index, bool, const float*, Index,
                     bool, float*);
template void matmul(Index, Index, Index, Index, const double*, Index, bool, const double*, Index,
                     bool, double*);

}  // namespace chalk::cuda
