#include "autograd/shape.h"

#include <ostream>
#include <sstream>

namespace chalk {

Index element_count(const Shape& shape) {
  Index count = 1;
  for (Index size : shape)
    count *= size;
  return count;
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
