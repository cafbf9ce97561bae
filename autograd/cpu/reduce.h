// Sums and maxima along one axis of x [outer, length, inner], and sums over the rows of a matrix.
//
// Sums are kept in double, whatever T: converting costs nothing beside reading the elements, and
// the result is the exact sum, rounded once. Long sums are cut into pieces of a fixed size whose
// results are added in order: the same bits for any number of threads.
#pragma once

#include <limits>
#include <type_traits>

#include "autograd/backend.h"
#include "autograd/cpu/elementwise.h"
#include "autograd/cpu/scratch.h"

namespace chalk::cpu {

// An integer as wide as T, so that a comparison of T can choose between integers.
template <typename T>
using IntegerLike = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

// The sum of x [count].
template <typename T>
double sum_of(Index count, const T* x) {
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (Index i = 0; i < count; ++i)
    total += static_cast<double>(x[i]);
  return total;
}

// totals[c] += sum over r of x[r, c] for x [rows, columns].
template <typename T>
void add_rows(Index rows, Index columns, const T* x, double* totals) {
  for (Index r = 0; r < rows; ++r, x += columns) {
#pragma omp simd
    for (Index c = 0; c < columns; ++c)
      totals[c] += static_cast<double>(x[c]);
  }
}

// How many rows of so many columns make one piece of work.
inline Index rows_at_once(Index columns) {
  return std::max<Index>(1, 2 * elements_at_once / std::max<Index>(1, columns));
}

// totals [width] = sums over all rows. add(begin, end, partial) adds those of rows begin .. end - 1
// to partial [width].
template <typename Add>
void sum_over_rows(Index rows, Index piece, Index width, double* totals, const Add& add) {
  const Index pieces = (rows + piece - 1) / piece;
  Scratch scratch;
  double* partial = scratch.take<double>(pieces * width);
  parallel_for(pieces, [&](Index i) {
    std::fill(partial + i * width, partial + (i + 1) * width, 0.0);
    add(i * piece, std::min(rows, (i + 1) * piece), partial + i * width);
  });
  std::fill(totals, totals + width, 0.0);
  for (Index i = 0; i < pieces; ++i)
    for (Index c = 0; c < width; ++c)
      totals[c] += partial[i * width + c];
}

// y[o, i] = sum over l of x[o, l, i]
template <typename T>
void sum(const AxisSizes& sizes, const T* x, T* y) {
  const Index outer = sizes.outer, length = sizes.length, inner = sizes.inner;
  const Index piece = rows_at_once(inner),
              pieces = std::max<Index>(1, (length + piece - 1) / piece);
  Scratch scratch;
  double* partial = scratch.take<double>(outer * pieces * inner);
  const Index tasks_at_once = rows_at_once(std::min(piece, length) * inner);
  parallel_ranges(outer * pieces, tasks_at_once, [&](Index first, Index last) {
    for (Index task = first; task < last; ++task) {
      const Index begin = task % pieces * piece, count = std::min(piece, length - begin);
      const T* from = x + (task / pieces * length + begin) * inner;
      double* to = partial + task * inner;
      if (inner == 1) {
        *to = sum_of(count, from);
      } else {
        std::fill(to, to + inner, 0.0);
        add_rows(count, inner, from, to);
      }
    }
  });
  parallel_ranges(outer, rows_at_once(pieces * inner), [&](Index first, Index last) {
    for (Index o = first; o < last; ++o) {
      for (Index i = 0; i < inner; ++i) {
        double total = 0;
        for (Index p = 0; p < pieces; ++p)
          total += partial[(o * pieces + p) * inner + i];
        y[o * inner + i] = static_cast<T>(total);
      }
    }
  });
}

// ---- maximum: NaN counts as larger than all ----

// Whether `value` takes the place of the maximum so far: if it is larger, or the first NaN.
template <typename T>
bool takes_over(T value, T best) {
  return (value > best) | ((value != value) & (best == best));
}

// The maximum of x [count], count > 0, and where it is first found.
template <typename T>
T max_of(Index count, const T* x, Index& position) {
  using Integer = IntegerLike<T>;
  constexpr Integer block = 1024;  // stays in the first cache for the search
  T best = x[0];
  position = 0;
  for (Index begin = 0; begin < count; begin += block) {
    const Integer size = static_cast<Integer>(std::min<Index>(block, count - begin));
    const T* values = x + begin;
    T largest = values[0];
    Integer nans = 0;
#pragma omp simd reduction(max : largest) reduction(| : nans)
    for (Integer i = 0; i < size; ++i) {
      largest = values[i] > largest ? values[i] : largest;
      nans |= values[i] != values[i];
    }
    if (nans) largest = std::numeric_limits<T>::quiet_NaN();
    if (begin > 0 && !takes_over(largest, best)) continue;
    Integer first = size;
#pragma omp simd reduction(min : first)
    for (Integer i = 0; i < size; ++i) {
      const bool found = nans ? values[i] != values[i] : values[i] == largest;
      const Integer here = found ? i : size;
      first = here < first ? here : first;
    }
    best = largest;
    position = begin + first;
  }
  return best;
}

// best[c] = max over r of x[r, c], position[c] = the first such r, for c < count and x of `rows`
// rows, `columns` apart.
template <typename T>
void max_of_rows(Index rows, Index columns, Index count, const T* x, T* best,
                 std::int64_t* position) {
  std::copy(x, x + count, best);
  std::fill(position, position + count, 0);
  for (Index r = 1; r < rows; ++r) {
    x += columns;
#pragma omp simd
    for (Index c = 0; c < count; ++c) {
      const bool better = takes_over(x[c], best[c]);
      best[c] = better ? x[c] : best[c];
      position[c] = better ? r : position[c];
    }
  }
}

// y[o, i] = max over l of x[o, l, i], position[o, i] = the first such l. length > 0.
template <typename T>
void max(const AxisSizes& sizes, const T* x, T* y, std::int64_t* position) {
  const Index outer = sizes.outer, length = sizes.length, inner = sizes.inner;
  if (inner == 1) {
    return parallel_ranges(outer, rows_at_once(length), [&](Index begin, Index end) {
      for (Index o = begin; o < end; ++o)
        y[o] = max_of(length, x + o * length, position[o]);
    });
  }
  constexpr Index columns_at_once = 64;
  const Index columns = (inner + columns_at_once - 1) / columns_at_once;
  const Index tasks_at_once = rows_at_once(length * std::min(inner, columns_at_once));
  parallel_ranges(outer * columns, tasks_at_once, [&](Index begin, Index end) {
    for (Index task = begin; task < end; ++task) {
      const Index o = task / columns, first = task % columns * columns_at_once;
      const Index count = std::min(columns_at_once, inner - first);
      max_of_rows(length, inner, count, x + o * length * inner + first, y + o * inner + first,
                  position + o * inner + first);
    }
  });
}

// dx[o, l, i] = dy[o, i] where l is position[o, i], else 0
template <typename T>
void max_backward(const AxisSizes& sizes, const std::int64_t* position, const T* dy, T* dx) {
  const Index outer = sizes.outer, length = sizes.length, inner = sizes.inner;
  parallel_ranges(outer, rows_at_once(length * inner), [&](Index begin, Index end) {
    std::fill(dx + begin * length * inner, dx + end * length * inner, T(0));
    for (Index o = begin; o < end; ++o)
      for (Index i = 0; i < inner; ++i)
        dx[(o * length + position[o * inner + i]) * inner + i] = dy[o * inner + i];
  });
}

}  // namespace chalk::cpu
