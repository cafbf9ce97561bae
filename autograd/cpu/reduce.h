// Sums and maxima along one axis of x [outer, length, inner], and sums over the rows of a matrix.
//
// Long sums are kept in double, whatever T: converting costs little beside reading the elements.
// They are cut into pieces of a fixed size whose results are added in order: the same bits for any
// number of threads.
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

// The sum of term(i), of type T, for i < count. 32 sums side by side keep the vector units busy;
// after at most 64 additions each they are added up, two by two, and go into a double.
template <typename T, typename Term>
double sum_of_terms(Index count, const Term& term) {
  constexpr Index side_by_side = 32, run = 64 * side_by_side;
  double total = 0;
  for (Index begin = 0; begin < count; begin += run) {
    const Index end = std::min(count, begin + run);
    T sum[side_by_side] = {};
    Index i = begin;
    for (; i + side_by_side <= end; i += side_by_side)
      for (Index j = 0; j < side_by_side; ++j)
        sum[j] += term(i + j);
    for (Index j = 0; i + j < end; ++j)
      sum[j] += term(i + j);
    for (Index half = side_by_side / 2; half > 0; half /= 2)
      for (Index j = 0; j < half; ++j)
        sum[j] += sum[j + half];
    total += static_cast<double>(sum[0]);
  }
  return total;
}

// The sum of x [count].
template <typename T>
double sum_of(Index count, const T* x) {
  return sum_of_terms<T>(count, [x](Index i) { return x[i]; });
}

// Columns (channels) are taken in tiles of this many, so that what is collected about them stays in
// registers while a loop walks down the rows: arrays of this size, indexed by loops that go to
// `width`. For whole tiles width is a constant, so that the compiler unrolls those loops.
constexpr Index tile_width = 32;

// Calls tile(first column, width) for all columns.
template <typename Tile>
void for_each_tile(Index columns, const Tile& tile) {
  Index c = 0;
  for (; c + tile_width <= columns; c += tile_width)
    tile(c, std::integral_constant<Index, tile_width>());
  if (c < columns) tile(c, columns - c);
}

// totals[c] = sum over r of x[r, c] for x [rows, columns].
template <typename T>
void sum_of_rows(Index rows, Index columns, const T* x, double* totals) {
  for_each_tile(columns, [=](Index first, auto width) {
    double total[tile_width] = {};
    const T* row = x + first;
    for (Index r = 0; r < rows; ++r, row += columns) {
#pragma omp simd
      for (Index c = 0; c < width; ++c)
        total[c] += static_cast<double>(row[c]);
    }
    std::copy(total, total + width, totals + first);
  });
}

// How many rows of so many columns make one piece of work.
inline Index rows_at_once(Index columns) {
  return std::max<Index>(1, 2 * elements_at_once / std::max<Index>(1, columns));
}

// totals [width] = sums over all rows, where add(begin, end, partial) writes those of the rows
// begin .. end - 1 to partial [width].
template <typename Add>
void sum_over_rows(Index rows, Index piece, Index width, double* totals, const Add& add) {
  const Index pieces = (rows + piece - 1) / piece;
  Scratch scratch;
  double* partial = scratch.take<double>(pieces * width);
  parallel_for(pieces, [&](Index i) {
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
  const Index piece = rows_at_once(inner), pieces = (length + piece - 1) / piece;
  if (inner == 1 && pieces == 1) {  // many short rows
    return parallel_ranges(outer, rows_at_once(length), [=](Index begin, Index end) {
      for (Index o = begin; o < end; ++o)
        y[o] = static_cast<T>(sum_of(length, x + o * length));
    });
  }
  Scratch scratch;
  double* partial = scratch.take<double>(outer * pieces * inner);
  const Index tasks_at_once = rows_at_once(std::min(piece, length) * inner);
  parallel_ranges(outer * pieces, tasks_at_once, [&](Index first, Index last) {
    for (Index task = first; task < last; ++task) {
      const Index begin = task % pieces * piece, count = std::min(piece, length - begin);
      const T* from = x + (task / pieces * length + begin) * inner;
      if (inner == 1) {
        partial[task] = sum_of(count, from);
      } else {
        sum_of_rows(count, inner, from, partial + task * inner);
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
      const bool found = (values[i] == largest) | (values[i] != values[i]);
      const Integer here = found ? i : size;
      first = here < first ? here : first;
    }
    best = largest;
    position = begin + first;
  }
  return best;
}

// best[c] = max over r of x[r, c], position[c] = the first such r, for x [rows, columns], rows > 0.
template <typename T>
void max_of_rows(Index rows, Index columns, const T* x, T* best, std::int64_t* position) {
  for_each_tile(columns, [=](Index first, auto width) {
    T largest[tile_width];
    IntegerLike<T> where[tile_width] = {};
    const T* row = x + first;
    std::copy(row, row + width, largest);
    for (Index r = 1; r < rows; ++r) {
      row += columns;
#pragma omp simd
      for (Index c = 0; c < width; ++c) {
        const bool better = takes_over(row[c], largest[c]);
        largest[c] = better ? row[c] : largest[c];
        where[c] = better ? static_cast<IntegerLike<T>>(r) : where[c];
      }
    }
    std::copy(largest, largest + width, best + first);
    std::copy(where, where + width, position + first);
  });
}

// y[o, i] = max over l of x[o, l, i], position[o, i] = the first such l. length > 0.
template <typename T>
void max(const AxisSizes& sizes, const T* x, T* y, std::int64_t* position) {
  const Index outer = sizes.outer, length = sizes.length, inner = sizes.inner;
  parallel_ranges(outer, rows_at_once(length * inner), [&](Index begin, Index end) {
    for (Index o = begin; o < end; ++o) {
      if (inner == 1) {
        y[o] = max_of(length, x + o * length, position[o]);
      } else {
        max_of_rows(length, inner, x + o * length * inner, y + o * inner, position + o * inner);
      }
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
