// The matrix kernel: the one loop in which a network spends its time.
//
// A core can multiply and add two or three vectors a nanosecond, but can load only about as many,
// so a product is fast only if what it loads is used many times. The levels, from the inside out:
//
//   registers  A tile of C, `tile_rows` rows by two vectors, stays in registers while the kernel
//              walks along the inner dimension. Each step loads one row of B (two vectors) and one
//              number of each row of A, and does 2 * tile_rows multiply-adds. Their results do
//              not wait for one another, which hides the 4 cycles each takes.
//   L1         B is packed: cut into panels as wide as the tile, each stored row after row, so
//              that the kernel reads it without a gap. Unpacked, rows a power of two apart would
//              fall into the same few cache sets and throw one another out.
//   L2         Callers cut their work so that a panel of B and the rows of A it meets stay here.
//
// A convolution is a sum of products whose A overlap (see conv2d_gemm.h), so A is not a matrix in
// memory but four numbers: where it starts and how far it is to the next row, element and step.
//
//   C[i][j] (+)= sum over step s, element k of  A[i, s, k] B[s, k, j]
//
// GCC's and Clang's vector extensions turn +, * on `Vector` into the processor's instructions.
#pragma once

#include <algorithm>
#include <cstring>

#include "autograd/shape.h"

namespace chalk::cpu {

// The only place that asks for the processor: bytes of a vector, and rows of a tile such that
// 2 * tile_rows sums, two vectors of B and one number of A fit the registers (32, or 16 before
// AVX-512).
#if defined(__AVX512F__)
inline constexpr Index vector_bytes = 64, tile_rows = 8;
#elif defined(__AVX__)
inline constexpr Index vector_bytes = 32, tile_rows = 6;
#else
inline constexpr Index vector_bytes = 16, tile_rows = 6;
#endif

template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(vector_bytes)));
};
template <typename T>
using Vector = typename VectorOf<T>::type;

// How many T a vector holds, and how many columns a panel of B has.
template <typename T>
inline constexpr Index lanes = vector_bytes / sizeof(T);
template <typename T>
inline constexpr Index panel_columns = 2 * lanes<T>;

inline Index round_up(Index count, Index unit) {
  return (count + unit - 1) / unit * unit;
}
inline Index divide_up(Index count, Index unit) {
  return (count + unit - 1) / unit;
}

template <typename T>
Vector<T> load(const T* from) {
  Vector<T> vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

template <typename T>
void store(T* to, const Vector<T>& vector) {
  std::memcpy(to, &vector, sizeof vector);
}

// The same for the first `count` lanes (none where it is not positive); the others load as 0.
template <typename T>
Vector<T> load_some(const T* from, Index count) {
  Vector<T> vector = {};
  for (Index lane = 0; lane < std::min(count, lanes<T>); ++lane)
    vector[lane] = from[lane];
  return vector;
}

template <typename T>
void store_some(T* to, const Vector<T>& vector, Index count) {
  for (Index lane = 0; lane < std::min(count, lanes<T>); ++lane)
    to[lane] = vector[lane];
}

// One product, as in the formula at the top: A[i, s, k] = a[i a_row + s a_step + k a_inner],
// B[s, k, j] = b[s b_step + k b_inner + j], C[i][j] = c[i c_row + j]. C is added to if `add`.
template <typename T>
struct Product {
  const T* a;
  Index a_row, a_step, a_inner;
  const T* b;
  Index b_step, b_inner;
  T* c;
  Index c_row;
  Index steps, inner;
  bool add;
};

// One tile of C; of its vectors * lanes columns only the first `columns` are written. B is read
// to the full width.
template <typename T, int rows, int vectors>
void multiply_tile(const Product<T>& p, Index columns) {
  constexpr Index width = vectors * lanes<T>;
  Vector<T> sum[rows][vectors];
  for (int i = 0; i < rows; ++i) {
    for (int v = 0; v < vectors; ++v) {
      const T* c = p.c + i * p.c_row + v * lanes<T>;
      if (!p.add) {
        sum[i][v] = Vector<T>{};
      } else {
        sum[i][v] = columns == width ? load(c) : load_some(c, columns - v * lanes<T>);
      }
    }
  }
  const Index a_row = p.a_row, a_inner = p.a_inner, b_inner = p.b_inner, inner = p.inner;
  for (Index step = 0; step < p.steps; ++step) {
    const T* a = p.a + step * p.a_step;
    const T* b = p.b + step * p.b_step;
    for (Index k = 0; k < inner; ++k, a += a_inner, b += b_inner) {
      Vector<T> b_row[vectors];
      for (int v = 0; v < vectors; ++v)
        b_row[v] = load(b + v * lanes<T>);
      for (int i = 0; i < rows; ++i) {
        const T a_element = a[i * a_row];
        for (int v = 0; v < vectors; ++v)
          sum[i][v] += a_element * b_row[v];
      }
    }
  }
  for (int i = 0; i < rows; ++i) {
    for (int v = 0; v < vectors; ++v) {
      T* c = p.c + i * p.c_row + v * lanes<T>;
      if (columns == width) {
        store(c, sum[i][v]);
      } else {
        store_some(c, sum[i][v], columns - v * lanes<T>);
      }
    }
  }
}

// The tile with the number of rows, at most 8, that is only known now.
template <typename T, int vectors>
void multiply_rows(const Product<T>& p, Index rows, Index columns) {
  switch (rows) {
    case 1:
      return multiply_tile<T, 1, vectors>(p, columns);
    case 2:
      return multiply_tile<T, 2, vectors>(p, columns);
    case 3:
      return multiply_tile<T, 3, vectors>(p, columns);
    case 4:
      return multiply_tile<T, 4, vectors>(p, columns);
    case 5:
      return multiply_tile<T, 5, vectors>(p, columns);
    case 6:
      return multiply_tile<T, 6, vectors>(p, columns);
    case 7:
      return multiply_tile<T, 7, vectors>(p, columns);
    default:
      return multiply_tile<T, 8, vectors>(p, columns);
  }
}

// C with any number of rows and columns; B's panels are b_panel apart. The rows are dealt out
// evenly, since 7 + 7 rows are faster than 8 + 6.
template <typename T>
void multiply(Product<T> p, Index rows, Index columns, Index b_panel) {
  const Index tiles = divide_up(rows, tile_rows);
  const T* a = p.a;
  for (Index column = 0; column < columns; column += panel_columns<T>, p.b += b_panel) {
    const Index width = std::min(columns - column, panel_columns<T>);
    T* c = p.c + column;
    Product<T> tile = p;
    for (Index t = 0; t < tiles; ++t) {
      const Index begin = rows * t / tiles, end = rows * (t + 1) / tiles;
      tile.a = a + begin * p.a_row;
      tile.c = c + begin * p.c_row;
      if (width > lanes<T>) {
        multiply_rows<T, 2>(tile, end - begin, width);
      } else {
        multiply_rows<T, 1>(tile, end - begin, width);
      }
    }
  }
}

// Packs one panel, columns [0, columns <= panel_columns) of a matrix with element (k, j) at
// from[k row + j column]: to[k panel_columns + j], zero beyond the last column.
template <typename T>
void pack_panel(const T* from, Index row, Index column, Index rows, Index columns, T* to) {
  constexpr Index width = panel_columns<T>;
  constexpr Index block = 16;  // rows at a time, so that a transposed matrix is read by the line
  for (Index begin = 0; begin < rows; begin += block) {
    const Index end = std::min(rows, begin + block);
    if (column == 1) {
      for (Index k = begin; k < end; ++k) {
        std::memcpy(to + k * width, from + k * row, static_cast<std::size_t>(columns) * sizeof(T));
      }
    } else {
      for (Index j = 0; j < columns; ++j) {
        for (Index k = begin; k < end; ++k)
          to[k * width + j] = from[k * row + j * column];
      }
    }
    if (columns == width) continue;
    for (Index k = begin; k < end; ++k)
      std::fill(to + k * width + columns, to + (k + 1) * width, T(0));
  }
}

}  // namespace chalk::cpu
