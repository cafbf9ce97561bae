#include "autograd/fusion.h"

#include <cstdlib>
#include <string_view>

namespace chalk {

static bool enabled_at_start() {
  if (const char* value = std::getenv("CHALK_FUSED")) return std::string_view(value) != "0";
#ifdef CHALK_PLAIN
  return false;
#else
  return true;
#endif
}

static bool& enabled_now() {
  static bool enabled = enabled_at_start();
  return enabled;
}

bool fusion_enabled() {
  return enabled_now();
}

void set_fusion(bool enabled) {
  enabled_now() = enabled;
}

}  // namespace chalk
