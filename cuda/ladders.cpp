#include "cuda/ladders.h"

#include "autograd/environment.h"
#include "autograd/ladder.h"

namespace chalk::cuda {

static Ladder<ConvRung>& convolutions() {
  static Ladder<ConvRung> ladder("convolution on cuda", "CHALK_CUDA_CONV",
                                 {"automatic", "direct", "im2col", "tiled", "tensor", "patch"},
                                 "automatic");
  return ladder;
}

static Ladder<MatmulRung>& products() {
  static Ladder<MatmulRung> ladder("matrix product on cuda", "CHALK_CUDA_MATMUL",
                                   {"naive", "tiled", "registers", "tensor", "cublas"}, "cublas");
  return ladder;
}

static Ladder<RowRung>& rows() {
  static Ladder<RowRung> ladder("way to sum rows on cuda", "CHALK_CUDA_ROWS",
                                {"automatic", "thread", "warp", "block"}, "automatic");
  return ladder;
}

// clang-format off
void set_conv_rung(ConvRung rung) { convolutions().set(rung); }
ConvRung conv_rung() { return convolutions().rung(); }
const std::vector<std::string_view>& conv_rung_names() { return convolutions().names(); }

void set_matmul_rung(MatmulRung rung) { products().set(rung); }
MatmulRung matmul_rung() { return products().rung(); }
const std::vector<std::string_view>& matmul_rung_names() { return products().names(); }

void set_row_rung(RowRung rung) { rows().set(rung); }
RowRung row_rung() { return rows().rung(); }
const std::vector<std::string_view>& row_rung_names() { return rows().names(); }
// clang-format on

// ---- TF32 ----

static bool& for_convolutions() {
  static bool allowed = environment_flag("CHALK_TF32", true);
  return allowed;
}
static bool& for_products() {
  static bool allowed = environment_flag("CHALK_TF32", false);
  return allowed;
}

void set_tf32(bool convolutions, bool products) {
  for_convolutions() = convolutions;
  for_products() = products;
}
bool tf32_in_convolutions() {
  return for_convolutions();
}
bool tf32_in_products() {
  return for_products();
}

}  // namespace chalk::cuda
