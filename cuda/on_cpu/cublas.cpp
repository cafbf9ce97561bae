#include "cuda/on_cpu/cublas.h"

#include <cmath>

#include "cuda/on_cpu/tensor_core.h"

using namespace chalk::cuda::on_cpu;

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  *handle = new Cublas;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t, void* workspace, std::size_t bytes) {
  return on_device(workspace, bytes) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

const char* cublasGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : "CUBLAS_STATUS_INVALID_VALUE";
}

namespace {

struct Product {
  bool transpose_a, transpose_b;
  int m, n, k, lda, ldb, ldc;
  bool tf32;
};

// To TF32, halves upwards; a carry would make some NaN a number.
float rounded(float x) {
  return std::isnan(x) ? x : tf32(std::bit_cast<std::uint32_t>(x) + 0x1000u);
}
double rounded(double x) {
  return x;
}

// C = alpha op(A) op(B) + beta C; where beta is 0, C is not read.
template <typename T>
void multiply(const Product& p, T alpha, const T* a, const T* b, T beta, T* c) {
  for (long column = 0; column < p.n; ++column) {
    for (long row = 0; row < p.m; ++row) {
      T sum = 0;
      for (long k = 0; k < p.k; ++k) {
        const T x = a[p.transpose_a ? k + row * p.lda : row + k * p.lda];
        const T y = b[p.transpose_b ? column + k * p.ldb : k + column * p.ldb];
        sum += p.tf32 ? rounded(x) * rounded(y) : x * y;
      }
      T& result = c[row + column * p.ldc];
      result = alpha * sum + (beta == 0 ? 0 : beta * result);
    }
  }
}

template <typename T>
void submit_products(Stream* stream, const Product& p, const void* alpha, const void* a,
                     long long a_stride, const void* b, long long b_stride, const void* beta,
                     void* c, long long c_stride, int batch) {
  const T scale = *static_cast<const T*>(alpha), keep = *static_cast<const T*>(beta);
  submit(stream, [=] {
    for (int i = 0; i < batch; ++i)
      multiply(p, scale, static_cast<const T*>(a) + i * a_stride,
               static_cast<const T*>(b) + i * b_stride, keep, static_cast<T*>(c) + i * c_stride);
  });
}

}  // namespace

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t transpose_a,
                                          cublasOperation_t transpose_b, int m, int n, int k,
                                          const void* alpha, const void* a, cudaDataType_t type,
                                          int lda, long long a_stride, const void* b,
                                          cudaDataType_t b_type, int ldb, long long b_stride,
                                          const void* beta, void* c, cudaDataType_t c_type, int ldc,
                                          long long c_stride, int batch,
                                          cublasComputeType_t compute, cublasGemmAlgo_t) {
  const bool turn_a = transpose_a == CUBLAS_OP_T, turn_b = transpose_b == CUBLAS_OP_T;
  if (m < 0 || n < 0 || k < 0 || batch < 0 || lda < std::max(1, turn_a ? k : m) ||
      ldb < std::max(1, turn_b ? n : k) || ldc < std::max(1, m) || b_type != type ||
      c_type != type || (type == CUDA_R_64F) != (compute == CUBLAS_COMPUTE_64F))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (m == 0 || n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;
  if (!on_device(c) || (k > 0 && (!on_device(a) || !on_device(b))))
    return CUBLAS_STATUS_INVALID_VALUE;
  const Product p{turn_a, turn_b, m, n, k, lda, ldb, ldc, compute == CUBLAS_COMPUTE_32F_FAST_TF32};
  const auto submit_typed = type == CUDA_R_64F ? submit_products<double> : submit_products<float>;
  submit_typed(handle->stream, p, alpha, a, a_stride, b, b_stride, beta, c, c_stride, batch);
  return CUBLAS_STATUS_SUCCESS;
}
