#include "autograd/cpu/ladders.h"

#include "autograd/ladder.h"

namespace chalk::cpu {

#ifdef CHALK_PLAIN
constexpr const char *first_convolution = "direct", *first_product = "loops";
#else
constexpr const char *first_convolution = "automatic", *first_product = "blocked";
#endif

static Ladder<ConvRung>& convolutions() {
  static Ladder<ConvRung> ladder(
      "convolution", "CHALK_CONV",
      {"automatic", "direct", "im2col", "gemm", "winograd2", "winograd4"}, first_convolution);
  return ladder;
}

static Ladder<MatmulRung>& products() {
  static Ladder<MatmulRung> ladder("matrix product", "CHALK_MATMUL", {"loops", "eigen", "blocked"},
                                   first_product);
  return ladder;
}

// clang-format off
void set_conv_rung(ConvRung rung) { convolutions().set(rung); }
ConvRung conv_rung() { return convolutions().rung(); }
const std::vector<std::string_view>& conv_rung_names() { return convolutions().names(); }
ConvRung conv_rung_named(std::string_view name) { return convolutions().named(name); }

void set_matmul_rung(MatmulRung rung) { products().set(rung); }
MatmulRung matmul_rung() { return products().rung(); }
const std::vector<std::string_view>& matmul_rung_names() { return products().names(); }
MatmulRung matmul_rung_named(std::string_view name) { return products().named(name); }
// clang-format on

}  // namespace chalk::cpu
