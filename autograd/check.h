// Errors: one exception type and one function that throws it.
//
//   check(k == weight_k, "conv2d: input has ", k, " channels, weight expects ", weight_k);
//
// A message names the layer's path, the operation, what was expected, the shapes, what to do:
//   layer1.0.sa.conv1: conv2d: input has 64 channels, weight expects 2; input [8, 56, 56, 64], ...
// The path in front comes from the ErrorScopes that are open on this thread.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "autograd/shape.h"

namespace chalk {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// While it lives, errors thrown on this thread begin with `name` (after those of outer scopes,
// joined by dots). Module opens one round every forward(). `name` must outlive the scope.
class ErrorScope {
 public:
  explicit ErrorScope(std::string_view name);
  ~ErrorScope();
  ErrorScope(const ErrorScope&) = delete;
  ErrorScope& operator=(const ErrorScope&) = delete;
};

// "layer1.0.conv1: " inside scopes, "" outside.
std::string error_path();

// Throws Error with the parts written one after the other.
template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  message << error_path();
  (message << ... << parts);
  throw Error(message.str());
}

// Fails with the parts unless the condition holds; they are only written when it does not.
template <typename... Parts>
void check(bool condition, const Parts&... parts) {
  if (!condition) fail(parts...);
}

}  // namespace chalk
