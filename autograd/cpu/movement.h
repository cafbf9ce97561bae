// Kernels that arrange or convert elements: permuted axes, copied rows, casts.
#pragma once

#include <vector>

#include "autograd/cpu/elementwise.h"

namespace chalk::cpu {

// to[r to_stride + i] = from[r from_stride + i] for r < rows, i < length
template <typename T>
void copy_rows(Index rows, Index length, const T* from, Index from_stride, T* to, Index to_stride) {
  if (length == 0) return;  // there may be 2^40 rows of nothing
  const Index rows_each = std::max<Index>(1, elements_at_once / std::max<Index>(1, length));
  parallel_ranges(rows, rows_each, [=](Index begin, Index end) {
    for (Index r = begin; r < end; ++r)
      std::copy(from + r * from_stride, from + r * from_stride + length, to + r * to_stride);
  });
}

// y_i = x_i in another type.
template <typename From, typename To>
void cast(Index count, const From* x, To* y) {
  for_each_element(count, [=](Index i) { y[i] = converted<From, To>(x[i]); });
}

// y[i, j] = x[j, i] for i < rows and j < columns; elements of a row of y are x_stride apart in x,
// the rows of y y_stride. In tiles that fit into the first cache both ways. Not inlined: among all
// that permute() keeps at hand there is no register left for the strides.
template <typename T>
[[gnu::noinline]] void transpose_tiles(Index rows, Index columns, const T* x, Index x_stride, T* y,
                                       Index y_stride) {
  constexpr Index tile = 16;
  for (Index j0 = 0; j0 < columns; j0 += tile) {
    const Index j1 = std::min(columns, j0 + tile);
    for (Index i = 0; i < rows; ++i)
      for (Index j = j0; j < j1; ++j)
        y[i * y_stride + j] = x[j * x_stride + i];
  }
}

// y[i_axes[0], i_axes[1], ...] = x[i_0, i_1, ...]. Where the innermost axis stays innermost, rows
// are copied. Else the innermost axis of x and that of y span matrices to be transposed. All
// other axes, and the rows of the matrices in strips, are counted through.
template <typename T>
void permute(const Shape& x_shape, const std::vector<Index>& axes, const T* x, T* y) {
  if (element_count(x_shape) == 0) return;
  std::vector<PermutedAxis> outer = permuted_axes(x_shape, axes);
  PermutedAxis columns{1, 1, 1}, rows{1, 1, 1};
  if (!outer.empty()) {
    columns = outer.back();
    outer.pop_back();
  }
  for (std::size_t i = 0; i < outer.size() && columns.x_stride != 1; ++i) {
    if (outer[i].x_stride != 1) continue;
    rows = outer[i];
    outer.erase(outer.begin() + static_cast<std::ptrdiff_t>(i));
  }
  constexpr Index strip = 64;
  const Index strips = (rows.size + strip - 1) / strip;
  Index tasks = strips;
  for (const PermutedAxis& axis : outer)
    tasks *= axis.size;
  const Index elements = std::min(rows.size, strip) * columns.size;
  parallel_ranges(tasks, std::max<Index>(1, elements_at_once / elements),
                  [&](Index begin, Index end) {
                    for (Index task = begin; task < end; ++task) {
                      const Index first = task % strips * strip;
                      const T* from = x + first;
                      T* to = y + first * rows.y_stride;
                      Index rest = task / strips;
                      for (std::size_t i = outer.size(); i-- > 0; rest /= outer[i].size) {
                        from += rest % outer[i].size * outer[i].x_stride;
                        to += rest % outer[i].size * outer[i].y_stride;
                      }
                      if (columns.x_stride == 1) {
                        std::copy(from, from + columns.size, to);
                      } else {
                        transpose_tiles(std::min(strip, rows.size - first), columns.size, from,
                                        columns.x_stride, to, rows.y_stride);
                      }
                    }
                  });
}

}  // namespace chalk::cpu
