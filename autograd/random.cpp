#include "autograd/random.h"

namespace chalk {

Generator& default_generator() {
  static Generator generator;
  return generator;
}

void manual_seed(std::uint64_t seed) {
  default_generator() = Generator{seed, 0};
}

}  // namespace chalk
