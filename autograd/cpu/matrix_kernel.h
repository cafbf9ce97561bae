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
// 2 * tile_rows sums, two vectors of B and one number of A fit the registers (32 in AVX-512 and in
// 64-bit ARM, 16 in the others).
#if defined(__AVX512F__)
inline constexpr Index vector_bytes = 64, tile_rows = 8;
#elif defined(__AVX__)
inline constexpr Index vector_bytes = 32, tile_rows = 6;
#elif defined(__aarch64__)
inline constexpr Index vector_bytes = 16, tile_rows = 8;
#else
inline constexpr Index vector_bytes = 16, tile_rows = 6;
#endif

template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(vector_bytes)));
  typedef T in_memory __attribute__((vector_size(vector_bytes), aligned(alignof(T)), may_alias));
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
  return *reinterpret_cast<const typename VectorOf<T>::in_memory*>(from);
}

template <typename T>
void store(T* to, Vector<T> vector) {
  *reinterpret_cast<typename VectorOf<T>::in_memory*>(to) = vector;
}

// The same for the first `count` lanes only (all, if there are not so many): the others load as 0.
// `simd` makes of each loop one masked instruction, where the processor has it.
template <typename T>
Vector<T> load_some(const T* from, Index count) {
  if (count >= lanes<T>) return load(from);
  const int some = static_cast<int>(count);
  T filled[lanes<T>];
#pragma omp simd
  for (int lane = 0; lane < lanes<T>; ++lane)
    filled[lane] = lane < some ? from[lane] : T(0);
  return load(filled);
}

template <typename T>
void store_some(T* to, Vector<T> vector, Index count) {
  if (count >= lanes<T>) return store(to, vector);
  const int some = static_cast<int>(count);
  T filled[lanes<T>];
  store(filled, vector);
#pragma omp simd
  for (int lane = 0; lane < lanes<T>; ++lane) {
    if (lane < some) to[lane] = filled[lane];
  }
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

// One tile of C, whole vectors; at least one step of at least one element.
template <typename T, int rows, int vectors>
void multiply_tile(Product<T> p) {
  for (int i = 0; i < rows; ++i) {  // C is needed last: ask for it now
    for (int v = 0; v < vectors; ++v)
      __builtin_prefetch(p.c + i * p.c_row + v * lanes<T>, 1);
  }
  Vector<T> sum[rows][vectors] = {};
  do {
    const T* a = p.a;
    const T* b = p.b;
    Index k = p.inner;
    do {
      Vector<T> b_row[vectors];
      for (int v = 0; v < vectors; ++v)
        b_row[v] = load(b + v * lanes<T>);
      for (int i = 0; i < rows; ++i) {
        for (int v = 0; v < vectors; ++v)
          sum[i][v] += a[i * p.a_row] * b_row[v];
      }
      a += p.a_inner;
      b += p.b_inner;
    } while (--k > 0);
    p.a += p.a_step;
    p.b += p.b_step;
  } while (--p.steps > 0);
  for (int i = 0; i < rows; ++i) {
    for (int v = 0; v < vectors; ++v) {
      T* c = p.c + i * p.c_row + v * lanes<T>;
      store(c, p.add ? load(c) + sum[i][v] : sum[i][v]);
    }
  }
}

// The tile with the number of rows, at most 8, that is only known now.
template <typename T, int vectors>
void multiply_rows(const Product<T>& p, Index rows) {
  switch (rows) {
    case 1:
      return multiply_tile<T, 1, vectors>(p);
    case 2:
      return multiply_tile<T, 2, vectors>(p);
    case 3:
      return multiply_tile<T, 3, vectors>(p);
    case 4:
      return multiply_tile<T, 4, vectors>(p);
    case 5:
      return multiply_tile<T, 5, vectors>(p);
    case 6:
      return multiply_tile<T, 6, vectors>(p);
    case 7:
      return multiply_tile<T, 7, vectors>(p);
    default:
      return multiply_tile<T, 8, vectors>(p);
  }
}

// A tile at the right edge, with fewer columns than vectors hold: C goes through a whole tile.
template <typename T>
void multiply_edge(Product<T> p, Index rows, Index columns) {
  T tile[tile_rows * panel_columns<T>];
  T* c = p.c;
  const Index c_row = p.c_row;
  for (Index i = 0; p.add && i < rows; ++i) {
    std::copy(c + i * c_row, c + i * c_row + columns, tile + i * panel_columns<T>);
  }
  p.c = tile;
  p.c_row = panel_columns<T>;
  if (columns > lanes<T>) {
    multiply_rows<T, 2>(p, rows);
  } else {
    multiply_rows<T, 1>(p, rows);
  }
  for (Index i = 0; i < rows; ++i) {
    std::copy(tile + i * panel_columns<T>, tile + i * panel_columns<T> + columns, c + i * c_row);
  }
}

// C with any number of rows and columns; B's panels are b_panel apart. The rows are dealt out
// evenly, since 7 + 7 rows are faster than 8 + 6.
template <typename T>
void multiply(const Product<T>& p, Index rows, Index columns, Index b_panel = 0) {
  const Index tiles = divide_up(rows, tile_rows);
  Product<T> tile = p;
  for (Index column = 0; column < columns; column += panel_columns<T>, tile.b += b_panel) {
    for (Index t = 0; t < tiles; ++t) {
      const Index begin = rows * t / tiles, end = rows * (t + 1) / tiles;
      tile.a = p.a + begin * p.a_row;
      tile.c = p.c + begin * p.c_row + column;
      const Index width = std::min(columns - column, panel_columns<T>);
      if (width == panel_columns<T>) {
        multiply_rows<T, 2>(tile, end - begin);
      } else if (width == lanes<T>) {
        multiply_rows<T, 1>(tile, end - begin);
      } else {
        multiply_edge(tile, end - begin, width);
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
