// What the environment chooses.
#pragma once

#include <cstdlib>
#include <string_view>

#include "autograd/check.h"

namespace chalk {

// A variable that is 0 or 1, or `otherwise` where it is not set; throws Error for other values.
inline bool environment_flag(const char* name, bool otherwise) {
  const char* chosen = std::getenv(name);
  if (chosen == nullptr) return otherwise;
  const std::string_view text = chosen;
  check(text == "0" || text == "1", name, " is ", text, ", expected 0 or 1");
  return text == "1";
}

}  // namespace chalk
