// In the copies of the kernels that mutants.sh makes, every barrier and every wait asks whether it
// is the one that is left out.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace chalk::cuda {

constexpr int most_sites = 1000;

// CHALK_MUTANT: the number of the site that is left out. CHALK_MUTANT_SEEN: a file, where the
// numbers of those sites are added in the end that were reached.
struct Mutants {
  int removed = -1;
  bool reached[most_sites] = {};

  Mutants() {
    if (const char* chosen = std::getenv("CHALK_MUTANT")) removed = std::atoi(chosen);
  }
  ~Mutants() {
    const char* name = std::getenv("CHALK_MUTANT_SEEN");
    std::FILE* file = name == nullptr ? nullptr : std::fopen(name, "w");
    if (file == nullptr) return;
    for (int site = 0; site < most_sites; ++site)
      if (reached[site]) std::fprintf(file, "%d\n", site);
    std::fclose(file);
  }
};
inline Mutants mutants;

__attribute__((no_sanitize("thread"))) inline bool keeps(int site) {
  mutants.reached[site] = true;
  return site != mutants.removed;
}

}  // namespace chalk::cuda
