// Values from a file or the command line: what is out of range, or was read as something else, is
// named.
#pragma once

#define JSON_DIAGNOSTICS 1  // errors name the field
#include <nlohmann/json.hpp>
#include <string>

#include "autograd/check.h"

namespace chalk::fer {

// A NaN is within no range.
template <typename T>
void check_range(const std::string& name, T value, T least, T most) {
  check(value >= least && value <= most, name, " ", value, ": expected ", least, " to ", most);
}

// Fails, naming the field, where JSON held something else than was read from it: 1.5 or true as 1.
inline void check_exact(const nlohmann::json& stored, const nlohmann::json& read,
                        const std::string& path) {
  const nlohmann::json fields = read.flatten();
  for (const auto& [field, value] : fields.items()) {
    const auto& original = stored[nlohmann::json::json_pointer(field)];
    check(original == value, path, ": ", field.substr(1), " is ", original,
          value.is_number_float() ? ", expected a number" : ", expected a whole number");
  }
}

}  // namespace chalk::fer
