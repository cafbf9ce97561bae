#include "autograd/shape.h"

#include <algorithm>
#include <limits>
#include <ostream>
#include <sstream>

#include "autograd/check.h"

namespace chalk {

// Sizes of 0 are left out until the end: operations multiply parts of a shape, which must not
// overflow either.
Index element_count(const Shape& shape) {
  constexpr Index most = std::numeric_limits<Index>::max() / 8;
  Index count = 1;
  for (Index size : shape) {
    check(size >= 0, "a tensor can't have the shape ", shape, "; sizes are 0 or more");
    check(size == 0 || (!__builtin_mul_overflow(count, size, &count) && count <= most),
          "the shape ", shape, " has more elements than can be counted");
  }
  return std::count(shape.begin(), shape.end(), 0) > 0 ? 0 : count;
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '[';
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    out << (axis ? ", " : "") << shape[axis];
  return out << ']';
}

std::string to_string(const Shape& shape) {
  std::ostringstream out;
  out << shape;
  return out.str();
}

}  // namespace chalk
