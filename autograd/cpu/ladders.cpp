#include "autograd/cpu/ladders.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "autograd/check.h"

namespace chalk::cpu {

#ifdef CHALK_PLAIN
constexpr const char *first_convolution = "direct", *first_product = "loops";
#else
constexpr const char *first_convolution = "automatic", *first_product = "blocked";
#endif

// The place of a name in a list, which is the rung's number.
static int rung_named(const char* ladder, const char* variable,
                      const std::vector<std::string_view>& names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    std::string all;
    for (const std::string_view each : names)
      all += (all.empty() ? "" : ", ") + std::string(each);
    fail("there is no ", ladder, " called ", name, "; choose one of ", all, " (", variable, ")");
  }
  return static_cast<int>(found - names.begin());
}

static std::string_view first_rung(const char* variable, const char* otherwise) {
  const char* chosen = std::getenv(variable);
  return chosen ? chosen : otherwise;
}

// In the order of ConvRung and of MatmulRung.
const std::vector<std::string_view>& conv_rung_names() {
  static const std::vector<std::string_view> names = {"automatic", "direct",    "im2col",
                                                      "gemm",      "winograd2", "winograd4"};
  return names;
}

const std::vector<std::string_view>& matmul_rung_names() {
  static const std::vector<std::string_view> names = {"loops", "eigen", "blocked"};
  return names;
}

ConvRung conv_rung_named(std::string_view name) {
  return static_cast<ConvRung>(rung_named("convolution", "CHALK_CONV", conv_rung_names(), name));
}

MatmulRung matmul_rung_named(std::string_view name) {
  return static_cast<MatmulRung>(
      rung_named("matrix product", "CHALK_MATMUL", matmul_rung_names(), name));
}

static std::atomic<ConvRung>& chosen_conv_rung() {
  static std::atomic<ConvRung> rung = conv_rung_named(first_rung("CHALK_CONV", first_convolution));
  return rung;
}

static std::atomic<MatmulRung>& chosen_matmul_rung() {
  static std::atomic<MatmulRung> rung =
      matmul_rung_named(first_rung("CHALK_MATMUL", first_product));
  return rung;
}

void set_conv_rung(ConvRung rung) {
  chosen_conv_rung() = rung;
}
ConvRung conv_rung() {
  return chosen_conv_rung();
}

void set_matmul_rung(MatmulRung rung) {
  chosen_matmul_rung() = rung;
}
MatmulRung matmul_rung() {
  return chosen_matmul_rung();
}

}  // namespace chalk::cpu
