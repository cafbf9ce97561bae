#include "autograd/cpu/matmul_eigen.h"

// Eigen would cut a product by the number of threads, and so give other bits on each.
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>

#include "autograd/cpu/parallel.h"

namespace chalk::cpu {

template <typename T>
using EigenMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <typename T>
static auto seen_by_eigen(const MatrixView<T>& m) {
  using Element = EigenMatrix<std::remove_const_t<T>>;
  using Seen = std::conditional_t<std::is_const_v<T>, const Element, Element>;
  return Eigen::Map<Seen, Eigen::Unaligned, Eigen::OuterStride<>>(m.data, m.rows, m.columns,
                                                                  Eigen::OuterStride<>(m.stride));
}

template <typename T>
void eigen_product(const MatrixView<const T>& a, bool transpose_a, const MatrixView<const T>& b,
                   bool transpose_b, bool add, const MatrixView<T>& c) {
  const auto A = seen_by_eigen(a), B = seen_by_eigen(b);
  auto C = seen_by_eigen(c);
  if (!add) C.setZero();
  if (transpose_a && transpose_b)
    C.noalias() += A.transpose() * B.transpose();
  else if (transpose_a)
    C.noalias() += A.transpose() * B;
  else if (transpose_b)
    C.noalias() += A * B.transpose();
  else
    C.noalias() += A * B;
}

template <typename T>
void matmul_eigen(Index batch, Index rows, Index inner, Index columns, const T* a,
                  Index a_batch_stride, bool transpose_a, const T* b, Index b_batch_stride,
                  bool transpose_b, T* c) {
  const Index piece = std::max<Index>(64, rows / 8);  // rows of C for one thread
  const Index pieces = (rows + piece - 1) / piece;
  parallel_for(batch * pieces, [&](Index task) {
    const Index n = task / pieces, i = task % pieces * piece, count = std::min(piece, rows - i);
    const T* a_n = a + n * a_batch_stride;
    const MatrixView<const T> some_a =
        transpose_a ? MatrixView<const T>{a_n + i, inner, count, rows}
                    : MatrixView<const T>{a_n + i * inner, count, inner, inner};
    const MatrixView<const T> whole_b{b + n * b_batch_stride, transpose_b ? columns : inner,
                                      transpose_b ? inner : columns, transpose_b ? inner : columns};
    eigen_product(some_a, transpose_a, whole_b, transpose_b, false,
                  {c + (n * rows + i) * columns, count, columns, columns});
  });
}

template void eigen_product(const MatrixView<const float>&, bool, const MatrixView<const float>&,
                            bool, bool, const MatrixView<float>&);
template void eigen_product(const MatrixView<const double>&, bool, const MatrixView<const double>&,
                            bool, bool, const MatrixView<double>&);
template void matmul_eigen(Index, Index, Index, Index, const float*, Index, bool, const float*,
                           Index, bool, float*);
template void matmul_eigen(Index, Index, Index, Index, const double*, Index, bool, const double*,
                           Index, bool, double*);

}  // namespace chalk::cpu
