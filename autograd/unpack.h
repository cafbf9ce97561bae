// How backends unpack tensors: as rows and columns, and to the C++ type of their elements.
#pragma once

#include <algorithm>

#include "autograd/tensor.h"

namespace chalk {

// x [rows, columns] with the last axis as columns.
inline Index columns_of(const Tensor& x) {
  return x.dim() == 0 ? 1 : x.size(-1);
}
inline Index rows_of(const Tensor& x) {
  return x.numel() / std::max<Index>(1, columns_of(x));
}

// Calls body with a 0 of the C++ type that stands behind dtype.
template <typename Body>
void with_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::float32:
      return body(float{0});
    case DType::float64:
      return body(double{0});
    case DType::int64:
      return body(std::int64_t{0});
    case DType::uint8:
      return body(std::uint8_t{0});
  }
}

}  // namespace chalk
