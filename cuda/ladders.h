// Which rung of its ladder an operation takes on CUDA devices.
//
// Every rung gives the same result up to rounding, and the same bits from run to run. One that
// can't do a shape or a type leaves it to the rung below.
#pragma once

#include <string_view>
#include <vector>

namespace chalk::cuda {

// automatic: the fastest for each shape. direct: the definition. im2col: a matrix product of
// patches, by cuBLAS. tiled: the implicit matrix product, of tiles in shared memory. tensor: the
// same by tensor cores. patch: for some shapes special kernels besides (conv2d.h).
enum class ConvRung { automatic, direct, im2col, tiled, tensor, patch };

// naive: a thread an element. tiled: tiles in shared memory. registers: a tile of the tile in each
// thread's registers. tensor: by tensor cores, float32 with TF32 only. cublas: NVIDIA's library.
enum class MatmulRung { naive, tiled, registers, tensor, cublas };

// What sums up a row: a thread, a warp, or a block. automatic: by the row's length.
enum class RowRung { automatic, thread, warp, block };

// For all that follows. At the start the environment decides: CHALK_CUDA_CONV, CHALK_CUDA_MATMUL
// and CHALK_CUDA_ROWS name a rung; without them it is automatic, cublas, automatic.
void set_conv_rung(ConvRung rung);
ConvRung conv_rung();
void set_matmul_rung(MatmulRung rung);
MatmulRung matmul_rung();
void set_row_rung(RowRung rung);
RowRung row_rung();

const std::vector<std::string_view>& conv_rung_names();
const std::vector<std::string_view>& matmul_rung_names();
const std::vector<std::string_view>& row_rung_names();

// Whether float32 factors may be rounded to TF32 (10 bits of mantissa), which tensor cores multiply
// about ten times as fast. As in PyTorch convolutions may, matrix products not, unless CHALK_TF32
// is 0 (neither) or 1 (both).
void set_tf32(bool convolutions, bool products);
bool tf32_in_convolutions();
bool tf32_in_products();

}  // namespace chalk::cuda
