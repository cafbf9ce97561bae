// A ladder: the ways there are to compute one thing, from the plainest to the fastest, and which of
// them is taken from now on.
#pragma once

#include <atomic>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/check.h"

namespace chalk {

// Rung is an enum whose values count from 0; names are in its order. The first choice is that of
// the environment variable, else `otherwise`.
template <typename Rung>
class Ladder {
 public:
  Ladder(const char* what, const char* variable, std::vector<std::string_view> names,
         std::string_view otherwise)
      : what_(what), variable_(variable), names_(std::move(names)) {
    const char* chosen = std::getenv(variable);
    rung_ = named(chosen != nullptr ? chosen : otherwise);
  }

  const std::vector<std::string_view>& names() const { return names_; }

  // Throws Error for other names.
  Rung named(std::string_view name) const {
    std::string all;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      if (names_[i] == name) return static_cast<Rung>(i);
      all += (i == 0 ? "" : ", ") + std::string(names_[i]);
    }
    fail("there is no ", what_, " called ", name, "; choose one of ", all, " (", variable_, ")");
  }

  Rung rung() const { return rung_; }
  void set(Rung rung) { rung_ = rung; }

 private:
  const char *what_, *variable_;
  std::vector<std::string_view> names_;
  std::atomic<Rung> rung_;
};

}  // namespace chalk
