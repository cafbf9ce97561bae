#include "autograd/check.h"

#include <vector>

namespace chalk {

static thread_local std::vector<std::string_view> open_scopes;

ErrorScope::ErrorScope(std::string_view name) {
  open_scopes.push_back(name);
}

ErrorScope::~ErrorScope() {
  open_scopes.pop_back();
}

std::string error_path() {
  std::string path;
  for (std::string_view name : open_scopes) {
    if (name.empty()) continue;
    if (!path.empty()) path += '.';
    path += name;
  }
  return path.empty() ? path : path + ": ";
}

}  // namespace chalk
