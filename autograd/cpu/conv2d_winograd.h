// Convolution, fourth and fifth rung: Winograd's minimal filtering for 3x3 kernels with stride 1.
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308.
//
// m outputs of a filter g of 3 taps over n = m + 2 inputs d are a product of two polynomials, and
// a polynomial is known by its values at n points. Evaluate both, multiply the n values, and
// interpolate: n multiplications instead of 3 m. In matrices, and in two dimensions by doing so
// along both (@ is the product of each element with its partner)
//
//   y = A^T [(G g G^T) @ (B^T d B)] A          y: m x m outputs, d: n x n inputs, g: 3 x 3
//
// Here m = 2 (16 multiplications instead of 36) and m = 4 (36 instead of 144). The sum over
// channels happens between the transforms, so each of the n^2 elements becomes one matrix product
// [tiles, in] x [in, out]: that is where the time goes, and it has 2.25 or 4 times less to do.
//
// All transforms are linear, so the gradients are their transposes:
//   input:   the same with the kernel turned around and in and out exchanged
//   weight:  dg = G^T [sum over tiles of (B^T d B) @ (A dy A^T)] G
//
// The price is rounding: the numbers of m = 4 lose about three bits more than a plain sum.
#pragma once

#include "autograd/cpu/matrix_kernel.h"
#include "autograd/cpu/parallel.h"
#include "autograd/cpu/scratch.h"

namespace chalk::cpu {

// ---- the matrices ----
//
// The points come in pairs x and -x, whose rows differ only in the sign of the odd powers. So each
// matrix is a product with S, which adds and subtracts what such rows have in common:
//   B^T = S B,  G = S G,  A^T = A S      (on the right the smaller matrices that are given here)
template <int rows, int columns>
struct Matrix {
  double at[rows][columns];

  constexpr Matrix<columns, rows> transposed() const {
    Matrix<columns, rows> result{};
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < columns; ++j)
        result.at[j][i] = at[i][j];
    return result;
  }
};

template <int m>
struct WinogradMatrices;

// F(2, 3), for the points 0, 1, -1, infinity.
template <>
struct WinogradMatrices<2> {
  static constexpr Matrix<4, 4> s = {{{1, 0, 0, 0}, {0, 1, 1, 0}, {0, 1, -1, 0}, {0, 0, 0, 1}}};
  static constexpr Matrix<4, 4> b = {{{1, 0, -1, 0}, {0, 0, 1, 0}, {0, 1, 0, 0}, {0, 1, 0, -1}}};
  static constexpr Matrix<4, 3> g = {{{1, 0, 0}, {0.5, 0, 0.5}, {0, 0.5, 0}, {0, 0, 1}}};
  static constexpr Matrix<2, 4> a = {{{1, 1, 0, 0}, {0, 0, 1, -1}}};
};

// F(4, 3), for 0, p, -p, q, -q, infinity. The paper has p = 1, q = 2; any give the same result but
// for rounding, and with these, closer to one another around 1, its error halves. np and nq are the
// products of the distances of p and of q to the other points.
template <>
struct WinogradMatrices<4> {
  static constexpr double p = 0.75, p2 = p * p, p3 = p2 * p, q = 1.5, q2 = q * q, q3 = q2 * q,
                          pq2 = p * q2, p2q = p2 * q, p2q2 = p2 * q2;
  static constexpr double np = 2 * p2 * (p2 - q2), nq = 2 * q2 * (q2 - p2);
  static constexpr Matrix<6, 6> s = {{{1, 0, 0, 0, 0, 0},
                                      {0, 1, 1, 0, 0, 0},
                                      {0, 1, -1, 0, 0, 0},
                                      {0, 0, 0, 1, 1, 0},
                                      {0, 0, 0, 1, -1, 0},
                                      {0, 0, 0, 0, 0, 1}}};
  static constexpr Matrix<6, 6> b = {{{p2q2, 0, -p2 - q2, 0, 1, 0},
                                      {0, 0, -q2, 0, 1, 0},
                                      {0, -pq2, 0, p, 0, 0},
                                      {0, 0, -p2, 0, 1, 0},
                                      {0, -p2q, 0, q, 0, 0},
                                      {0, p2q2, 0, -p2 - q2, 0, 1}}};
  static constexpr Matrix<6, 3> g = {{{1 / p2q2, 0, 0},
                                      {1 / np, 0, p2 / np},
                                      {0, p / np, 0},
                                      {1 / nq, 0, q2 / nq},
                                      {0, q / nq, 0},
                                      {0, 0, 1}}};
  static constexpr Matrix<4, 6> a = {
      {{1, 1, 0, 1, 0, 0}, {0, 0, p, 0, q, 0}, {0, p2, 0, q2, 0, 0}, {0, 0, p3, 0, q3, 1}}};
};

// to = matrix from. Once the loops are unrolled, the compiler knows each factor, and leaves out
// what is multiplied by 0.
template <typename T, int rows, int columns>
inline void multiply(const Matrix<rows, columns>& matrix, const Vector<T>* from, Vector<T>* to) {
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    bool first = true;
#pragma GCC unroll 8
    for (int j = 0; j < columns; ++j) {
      if (matrix.at[i][j] == 0) continue;
      const Vector<T> term = T(matrix.at[i][j]) * from[j];
      to[i] = first ? term : to[i] + term;
      first = false;
    }
  }
}

// M x M^T, M = left right, for a square x of vectors: its elements are read(i), those of the result
// go to write(i, element).
template <typename T, int rows, int n, int columns, typename Read, typename Write>
inline void transform(const Matrix<rows, n>& left, const Matrix<n, columns>& right,
                      const Read& read, const Write& write) {
  Vector<T> half[rows][columns], between[n];
#pragma GCC unroll 8
  for (int j = 0; j < columns; ++j) {
    Vector<T> column[columns], result[rows];
    for (int i = 0; i < columns; ++i)
      column[i] = read(i * columns + j);
    multiply<T>(right, column, between);
    multiply<T>(left, between, result);
    for (int i = 0; i < rows; ++i)
      half[i][j] = result[i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    Vector<T> result[rows];
    multiply<T>(right, half[i], between);
    multiply<T>(left, between, result);
    for (int j = 0; j < rows; ++j)
      write(i * rows + j, result[j]);
  }
}

// The steps of all three passes for tiles of m x m outputs. Transformed values are stored as
//   [n * n elements][slabs of channels][tiles][channels of a slab],
// a slab being one vector of channels where they are A of a product, a panel where they are B or
// C: so the products read and write whole cache lines, one after the other.
template <typename T, int m>
struct Winograd {
  static constexpr int n = m + 2, elements = n * n;
  using V = Vector<T>;
  using Matrices = WinogradMatrices<m>;
  static constexpr auto a_transposed = Matrices::a.transposed();
  static constexpr auto g_transposed = Matrices::g.transposed();

  // An array of transformed tiles; element_size is a little odd, to use all cache sets.
  struct Values {
    T* data;
    Index tiles, slab, element_size;

    Values(Scratch& scratch, Index copies, Index tile_count, Index channels, Index slab_channels)
        : tiles(tile_count),
          slab(slab_channels),
          element_size(round_up(channels, slab) * tiles + lanes<T>) {
      data = scratch.take<T>(copies * elements * element_size);
    }
    Values copy(Index i) const {
      Values values = *this;
      values.data += i * elements * element_size;
      return values;
    }
    // Element 0 of a channel; the others are element_size apart.
    T* at(Index channel, Index tile) const {
      return data + channel / slab * slab * tiles + tile * slab + channel % slab;
    }
  };

  // The grid of tiles over images of height x width outputs.
  struct Grid {
    Index height, width, tiles_y = divide_up(height, m), tiles_x = divide_up(width, m);

    Index tiles() const { return tiles_y * tiles_x; }
  };

  // Where the pixels of a size x size square are whose corner is (y, x); those outside of the image
  // are at `zeros`.
  template <int size>
  static void find_square(const T* image, Index height, Index width, Index channels, Index y,
                          Index x, const T* zeros, const T** pixels) {
    for (Index i = 0; i < size; ++i) {
      for (Index j = 0; j < size; ++j) {
        const bool inside = y + i >= 0 && y + i < height && x + j >= 0 && x + j < width;
        pixels[i * size + j] = inside ? image + ((y + i) * width + x + j) * channels : zeros;
      }
    }
  }

  // B^T d B for the n x n pixels of a tile.
  static void transform_input(const T* const* pixels, Index channels, const Values& to,
                              Index tile) {
    for (Index c = 0; c < channels; c += lanes<T>) {
      for (int i = 0; i < n; ++i) {  // ask for what the tile to the right will need
        for (int j = 2; j < n; ++j)
          __builtin_prefetch(pixels[i * n + j] + m * channels + c);
      }
      T* out = to.at(c, tile);
      transform<T>(
          Matrices::s, Matrices::b, [&](int i) { return load_some(pixels[i] + c, channels - c); },
          [&](int e, V value) { store(out + e * to.element_size, value); });
    }
  }

  // A dy A^T for the m x m pixels of a tile.
  static void transform_gradient(const T* const* pixels, Index channels, const Values& to,
                                 Index tile) {
    for (Index c = 0; c < round_up(channels, to.slab); c += lanes<T>) {
      for (int i = 0; i < m * m; ++i)
        __builtin_prefetch(pixels[i] + m * channels + c);
      T* out = to.at(c, tile);
      transform<T>(
          Matrices::s, a_transposed, [&](int i) { return load_some(pixels[i] + c, channels - c); },
          [&](int e, V value) { store(out + e * to.element_size, value); });
    }
  }

  // y = A^T M A for the tile whose first output is (y, x).
  static void transform_output(const Values& from, Index tile, T* image, const Grid& grid,
                               Index channels, Index y, Index x) {
    const Index rows = std::min<Index>(m, grid.height - y);
    const Index columns = std::min<Index>(m, grid.width - x);
    for (Index i = 0; i < rows; ++i) {  // ask for the tile to the right, to be written next
      const T* right = image + ((y + i) * grid.width + x + m) * channels;
      for (Index c = 0; c < m * channels; c += lanes<T>)
        __builtin_prefetch(right + c, 1);
    }
    for (Index c = 0; c < channels; c += lanes<T>) {
      const T* in = from.at(c, tile);
      transform<T>(
          Matrices::a, Matrices::s, [&](int e) { return load(in + e * from.element_size); },
          [&](int i, V value) {
            if (i / m >= rows || i % m >= columns) return;
            T* pixel = image + ((y + i / m) * grid.width + x + i % m) * channels + c;
            store_some(pixel, value, channels - c);
          });
    }
  }

  // ---- weights ----

  // The rows of B in a product, one for each channel of A: whole vectors of them.
  static Index padded_in(Index in) { return round_up(in, lanes<T>); }
  static Index packed_size(Index in, Index out) {
    return elements * padded_in(in) * round_up(out, panel_columns<T>);
  }

  // Transforms the weight [3, 3, in, out] to [elements][panels of out][in][columns of a panel].
  static void pack(const T* weight, Index in, Index out, T* to) {
    const Index rows = padded_in(in), element = packed_size(in, out) / elements;
    const Index slabs = rows / lanes<T>, panels = divide_up(out, panel_columns<T>);
    parallel_for(panels * slabs, [&](Index task) {  // by panels: a thread writes whole pages
      const Index panel = task / slabs, first = task % slabs * lanes<T>;
      for (Index c = first; c < first + lanes<T>; ++c) {
        for (Index column = 0; column < panel_columns<T>; column += lanes<T>) {
          const Index o = panel * panel_columns<T> + column;
          T* values = to + (panel * rows + c) * panel_columns<T> + column;
          transform<T>(
              Matrices::s, Matrices::g,
              [&](int tap) {
                return c < in ? load_some(weight + (tap * in + c) * out + o, out - o) : V{};
              },
              [&](int e, V value) { store(values + e * element, value); });
        }
      }
    });
  }

  // [3, 3, in, out] -> [3, 3, out, in], both kernel axes reversed: the weight of the gradient.
  static void turn(const T* weight, Index in, Index out, T* to) {
    parallel_for(9, [&](Index tap) {
      const T* from = weight + (8 - tap) * in * out;
      for (Index o = 0; o < out; ++o) {
        for (Index c = 0; c < in; ++c)
          to[(tap * out + o) * in + c] = from[c * out + o];
      }
    });
  }

  // dg = G^T values G, values at [elements][padded_in][padded out], to [3, 3, in, out].
  static void transform_weight_gradient(const T* from, Index in, Index out, T* dw) {
    const Index row = round_up(out, panel_columns<T>), element = padded_in(in) * row;
    parallel_for(in, [&](Index c) {
      for (Index o = 0; o < out; o += lanes<T>) {
        const T* values = from + c * row + o;
        transform<T>(
            g_transposed, Matrices::s, [&](int e) { return load(values + e * element); },
            [&](int tap, V value) { store_some(dw + (tap * in + c) * out + o, value, out - o); });
      }
    });
  }

  // ---- passes ----

  // Tiles of one task: their transformed values fit the L2 cache, yet even one image makes
  // several tasks.
  static Index tiles_of_task(Index channels, Index tiles) {
    const Index fitting = (384 << 10) / (elements * static_cast<Index>(sizeof(T)) * channels);
    const Index most = std::clamp<Index>(round_up(fitting, 8), 24, 64);
    return std::clamp<Index>(round_up(divide_up(tiles, 8), 8), 8, most);
  }

  static const T* take_zeros(Scratch& scratch, Index channels) {
    T* zeros = scratch.take<T>(channels);
    std::fill(zeros, zeros + channels, T(0));
    return zeros;
  }

  // Convolves images [batch, height, width, in] to [batch, out_height, out_width, out].
  static void forward(Index batch, Index height, Index width, Index in, Index padding, Index out,
                      const T* input, const T* packed, T* output) {
    const Grid grid{height + 2 * padding - 2, width + 2 * padding - 2};
    const Index tiles = batch * grid.tiles(), task_tiles = tiles_of_task(in + out, tiles);
    Scratch scratch;
    const Values all_inputs(scratch, num_threads(), task_tiles, in, lanes<T>);
    const Values all_outputs(scratch, num_threads(), task_tiles, out, panel_columns<T>);
    const T* zeros = take_zeros(scratch, in);
    parallel_for(divide_up(tiles, task_tiles), [&](Index task, int thread) {
      const Values inputs = all_inputs.copy(thread), outputs = all_outputs.copy(thread);
      const Index begin = task * task_tiles, count = std::min(task_tiles, tiles - begin);
      for (Index t = 0; t < count; ++t) {
        const Index image = (begin + t) / grid.tiles(), at = (begin + t) % grid.tiles();
        const T* pixels[elements];
        find_square<n>(input + image * height * width * in, height, width, in,
                       at / grid.tiles_x * m - padding, at % grid.tiles_x * m - padding, zeros,
                       pixels);
        transform_input(pixels, in, inputs, t);
      }
      multiply_elements(inputs, packed, count, in, out, outputs);
      for (Index t = 0; t < count; ++t) {
        const Index image = (begin + t) / grid.tiles(), at = (begin + t) % grid.tiles();
        transform_output(outputs, t, output + image * grid.height * grid.width * out, grid, out,
                         at / grid.tiles_x * m, at % grid.tiles_x * m);
      }
    });
  }

  // outputs[element] [tiles, out] = inputs[element] [tiles, in] packed[element] [in, out]
  static void multiply_elements(const Values& inputs, const T* packed, Index tiles, Index in,
                                Index out, const Values& outputs) {
    const Index rows = padded_in(in), panel = rows * panel_columns<T>;
    for (int e = 0; e < elements; ++e) {
      for (Index o = 0; o < out; o += panel_columns<T>, packed += panel) {
        Product<T> product{};
        product.a = inputs.at(0, 0) + e * inputs.element_size;
        product.a_row = lanes<T>;
        product.a_step = inputs.tiles * lanes<T>;
        product.a_inner = 1;
        product.b = packed;
        product.b_step = lanes<T> * panel_columns<T>;
        product.b_inner = panel_columns<T>;
        product.c = outputs.at(o, 0) + e * outputs.element_size;
        product.c_row = panel_columns<T>;
        product.steps = rows / lanes<T>;
        product.inner = lanes<T>;
        multiply(product, tiles, panel_columns<T>);
      }
    }
  }

  // sums[element] [in, out] (+)= inputs[element]^T gradients[element], over the tiles
  static void accumulate(const Values& inputs, const Values& gradients, Index tiles, Index in,
                         Index out, bool add, T* sums) {
    const Index panels = divide_up(out, panel_columns<T>), row = panels * panel_columns<T>;
    parallel_for(elements * panels, [&](Index task) {
      const Index e = task / panels, o = task % panels * panel_columns<T>;
      for (Index c = 0; c < in; c += lanes<T>) {
        Product<T> product{};
        product.a = inputs.at(c, 0) + e * inputs.element_size;
        product.a_row = 1;
        product.a_inner = lanes<T>;
        product.b = gradients.at(o, 0) + e * gradients.element_size;
        product.b_inner = panel_columns<T>;
        product.c = sums + (e * padded_in(in) + c) * row + o;
        product.c_row = row;
        product.steps = 1;
        product.inner = tiles;
        product.add = add;
        multiply(product, lanes<T>, panel_columns<T>);
      }
    });
  }

  // The sum over all tiles goes in pieces (see pieces_of_sum), a piece in chunks: some tiles are
  // transformed, then multiplied.
  static void backward_weight(Index batch, Index height, Index width, Index in, Index padding,
                              Index out, const T* input, const T* dy, T* dw) {
    const Grid grid{height + 2 * padding - 2, width + 2 * padding - 2};
    const Index tiles = batch * grid.tiles();
    const Index size = packed_size(in, out);
    const Index pieces = pieces_of_sum(tiles / 64, size * static_cast<Index>(sizeof(T)));
    // The values of a chunk take about twice the room of the sums: both pass the caches once each.
    const Index most = std::max<Index>(200, 2 * in * out / (in + out));
    const Index piece_tiles = divide_up(tiles, pieces);
    const Index chunk = divide_up(piece_tiles, divide_up(piece_tiles, most));
    const Index copies = pieces > 1 ? num_threads() : 1;
    Scratch scratch;
    const Values all_inputs(scratch, copies, chunk, in, lanes<T>);
    const Values all_gradients(scratch, copies, chunk, out, panel_columns<T>);
    T* sums = scratch.take<T>(pieces * size);
    const T* zeros = take_zeros(scratch, std::max(in, out));
    parallel_for(pieces, [&](Index piece, int thread) {
      const Values inputs = all_inputs.copy(thread), gradients = all_gradients.copy(thread);
      const Index first = tiles * piece / pieces, last = tiles * (piece + 1) / pieces;
      for (Index begin = first; begin < last; begin += chunk) {
        const Index count = std::min(chunk, last - begin);
        parallel_ranges(count, 4, [&](Index from, Index to) {
          for (Index t = from; t < to; ++t) {
            const Index image = (begin + t) / grid.tiles(), at = (begin + t) % grid.tiles();
            const Index y = at / grid.tiles_x * m, x = at % grid.tiles_x * m;
            const T* pixels[elements];
            find_square<n>(input + image * height * width * in, height, width, in, y - padding,
                           x - padding, zeros, pixels);
            transform_input(pixels, in, inputs, t);
            find_square<m>(dy + image * grid.height * grid.width * out, grid.height, grid.width,
                           out, y, x, zeros, pixels);
            transform_gradient(pixels, out, gradients, t);
          }
        });
        accumulate(inputs, gradients, count, in, out, begin > first, sums + piece * size);
      }
    });
    add_pieces(pieces, size, sums);
    transform_weight_gradient(sums, in, out, dw);
  }
};

}  // namespace chalk::cpu
