// Convolution, third rung: Winograd's minimal filtering for 3x3 kernels with stride 1.
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

// The matrices. Each function multiplies a column of vectors, `from_step` apart, by a matrix.
template <typename T, int m>
struct WinogradMatrices;

// F(2, 3), points 0, 1, -1, infinity.
template <typename T>
struct WinogradMatrices<T, 2> {
  using V = Vector<T>;
  static constexpr double g[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};

  // B^T = 1  0 -1  0    A = 1  0
  //       0  1  1  0        1  1
  //       0 -1  1  0        1 -1
  //       0  1  0 -1        0 -1
  template <int from_step, int to_step>
  static void b_transposed(const V* d, V* to) {
    to[0] = d[0] - d[2 * from_step];
    to[to_step] = d[from_step] + d[2 * from_step];
    to[2 * to_step] = d[2 * from_step] - d[from_step];
    to[3 * to_step] = d[from_step] - d[3 * from_step];
  }
  template <int from_step, int to_step>
  static void a_transposed(const V* v, V* to) {
    to[0] = v[0] + v[from_step] + v[2 * from_step];
    to[to_step] = v[from_step] - v[2 * from_step] - v[3 * from_step];
  }
  template <int from_step, int to_step>
  static void a(const V* y, V* to) {
    to[0] = y[0];
    to[to_step] = y[0] + y[from_step];
    to[2 * to_step] = y[0] - y[from_step];
    to[3 * to_step] = -y[from_step];
  }
};

// F(4, 3), points 0, 1, -1, 2, -2, infinity.
template <typename T>
struct WinogradMatrices<T, 4> {
  using V = Vector<T>;
  static constexpr double g[6][3] = {{1.0 / 4, 0, 0},
                                     {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                     {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                     {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                     {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                     {0, 0, 1}};

  // B^T = 4  0 -5  0  1  0    A = 1  0  0  0    Rows come in pairs, for the points p and -p,
  //       0 -4 -4  1  1  0        1  1  1  1    which differ only in the sign of the odd powers:
  //       0  4 -4 -1  1  0        1 -1  1 -1    the even and the odd part are summed once.
  //       0 -2 -1  2  1  0        1  2  4  8
  //       0  2 -1 -2  1  0        1 -2  4 -8
  //       0  4  0 -5  0  1        0  0  0  1
  template <int from_step, int to_step>
  static void b_transposed(const V* d, V* to) {
    const V d1 = d[from_step], d2 = d[2 * from_step], d3 = d[3 * from_step], d4 = d[4 * from_step];
    const V even1 = d4 - T(4) * d2, odd1 = d3 - T(4) * d1;
    const V even2 = d4 - d2, odd2 = T(2) * (d3 - d1);
    to[0] = T(4) * d[0] - T(5) * d2 + d4;
    to[to_step] = even1 + odd1;
    to[2 * to_step] = even1 - odd1;
    to[3 * to_step] = even2 + odd2;
    to[4 * to_step] = even2 - odd2;
    to[5 * to_step] = T(4) * d1 - T(5) * d3 + d[5 * from_step];
  }
  template <int from_step, int to_step>
  static void a_transposed(const V* v, V* to) {
    const V even1 = v[from_step] + v[2 * from_step], odd1 = v[from_step] - v[2 * from_step];
    const V even2 = v[3 * from_step] + v[4 * from_step], odd2 = v[3 * from_step] - v[4 * from_step];
    to[0] = v[0] + even1 + even2;
    to[to_step] = odd1 + T(2) * odd2;
    to[2 * to_step] = even1 + T(4) * even2;
    to[3 * to_step] = odd1 + T(8) * odd2 + v[5 * from_step];
  }
  template <int from_step, int to_step>
  static void a(const V* y, V* to) {
    const V y0 = y[0], y1 = y[from_step], y2 = y[2 * from_step], y3 = y[3 * from_step];
    const V even1 = y0 + y2, odd1 = y1 + y3, even2 = y0 + T(4) * y2, odd2 = T(2) * y1 + T(8) * y3;
    to[0] = y0;
    to[to_step] = even1 + odd1;
    to[2 * to_step] = even1 - odd1;
    to[3 * to_step] = even2 + odd2;
    to[4 * to_step] = even2 - odd2;
    to[5 * to_step] = y3;
  }
};

// The steps of all three passes for tiles of m x m outputs. Transformed values are stored as
//   [n * n elements][slabs of channels][tiles][channels of a slab],
// a slab being one vector of channels where they are A of a product, a panel where they are B or
// C: so the products read and write whole cache lines, one after the other.
template <typename T, int m>
struct Winograd {
  static constexpr int n = m + 2, elements = n * n;
  using V = Vector<T>;
  using Matrices = WinogradMatrices<T, m>;

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
    T* at(Index element, Index channel, Index tile) const {
      return data + element * element_size + channel / slab * slab * tiles + tile * slab +
             channel % slab;
    }
  };

  // The grid of tiles over images of height x width outputs.
  struct Grid {
    Index height, width, tiles_y = divide_up(height, m), tiles_x = divide_up(width, m);

    Index tiles() const { return tiles_y * tiles_x; }
  };

  // Loads channels [c, c + a vector) of a size x size square of pixels that may lie partly outside
  // of the image, where it is 0.
  template <int size>
  static void load_square(const T* image, Index height, Index width, Index channels, Index y,
                          Index x, Index c, V* square) {
    const bool whole = channels - c >= lanes<T>;
    for (int i = 0; i < size; ++i) {
      for (int j = 0; j < size; ++j) {
        const bool inside = y + i >= 0 && y + i < height && x + j >= 0 && x + j < width;
        const T* pixel = image + ((y + i) * width + x + j) * channels + c;
        V value = {};
        if (inside) value = whole ? load(pixel) : load_some(pixel, channels - c);
        square[i * size + j] = value;
      }
    }
  }

  // B^T d B for the tile whose first output is (y, x).
  static void transform_input(const T* image, Index height, Index width, Index channels, Index y,
                              Index x, const Values& to, Index tile) {
    for (Index c = 0; c < channels; c += lanes<T>) {
      V d[elements], half[elements];
      load_square<n>(image, height, width, channels, y, x, c, d);
      for (int j = 0; j < n; ++j)
        Matrices::template b_transposed<n, n>(d + j, half + j);
      for (int i = 0; i < n; ++i)
        Matrices::template b_transposed<1, 1>(half + i * n, d + i * n);
      for (int e = 0; e < elements; ++e)
        store(to.at(e, c, tile), d[e]);
    }
  }

  // A dy A^T for the tile whose first output is (y, x).
  static void transform_gradient(const T* image, const Grid& grid, Index channels, Index y, Index x,
                                 const Values& to, Index tile) {
    for (Index c = 0; c < round_up(channels, to.slab); c += lanes<T>) {
      V dy[m * m], half[n * m], values[elements];
      load_square<m>(image, grid.height, grid.width, channels, y, x, c, dy);
      for (int j = 0; j < m; ++j)
        Matrices::template a<m, m>(dy + j, half + j);
      for (int i = 0; i < n; ++i)
        Matrices::template a<1, 1>(half + i * m, values + i * n);
      for (int e = 0; e < elements; ++e)
        store(to.at(e, c, tile), values[e]);
    }
  }

  // y = A^T M A for the tile whose first output is (y, x).
  static void transform_output(const Values& from, Index tile, T* image, const Grid& grid,
                               Index channels, Index y, Index x) {
    for (Index c = 0; c < channels; c += lanes<T>) {
      V values[elements], half[m * n], out[m * m];
      for (int e = 0; e < elements; ++e)
        values[e] = load(from.at(e, c, tile));
      for (int j = 0; j < n; ++j)
        Matrices::template a_transposed<n, n>(values + j, half + j);
      for (int i = 0; i < m; ++i)
        Matrices::template a_transposed<1, 1>(half + i * n, out + i * m);
      for (Index i = 0; i < std::min<Index>(m, grid.height - y); ++i) {
        for (Index j = 0; j < std::min<Index>(m, grid.width - x); ++j) {
          T* pixel = image + ((y + i) * grid.width + x + j) * channels + c;
          if (channels - c >= lanes<T>) {
            store(pixel, out[i * m + j]);
          } else {
            store_some(pixel, out[i * m + j], channels - c);
          }
        }
      }
    }
  }

  // ---- weights ----

  // The rows of B in a product, one for each channel of A: whole vectors of them.
  static Index padded_in(Index in) { return round_up(in, lanes<T>); }
  static Index packed_size(Index in, Index out) {
    return elements * padded_in(in) * round_up(out, panel_columns<T>);
  }

  // G g G^T of one tap square, for one vector of output channels.
  static void transform_weight(const V* g, V* to) {
    V half[n * 3];
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < 3; ++j) {
        half[i * 3 + j] = T(Matrices::g[i][0]) * g[j] + T(Matrices::g[i][1]) * g[3 + j] +
                          T(Matrices::g[i][2]) * g[6 + j];
      }
    }
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < n; ++j) {
        to[i * n + j] = T(Matrices::g[j][0]) * half[i * 3] +
                        T(Matrices::g[j][1]) * half[i * 3 + 1] +
                        T(Matrices::g[j][2]) * half[i * 3 + 2];
      }
    }
  }

  // Transforms the weight [3, 3, in, out] to [elements][panels of out][in][columns of a panel].
  static void pack(const T* weight, Index in, Index out, T* to) {
    const Index rows = padded_in(in), element = packed_size(in, out) / elements;
    parallel_for(rows, [&](Index c) {
      for (Index o = 0; o < round_up(out, panel_columns<T>); o += lanes<T>) {
        V g[9], values[elements];
        for (int tap = 0; tap < 9; ++tap) {
          g[tap] = c < in ? load_some(weight + (tap * in + c) * out + o, out - o) : V{};
        }
        transform_weight(g, values);
        const Index panel = o / panel_columns<T>, column = o % panel_columns<T>;
        for (int e = 0; e < elements; ++e) {
          store(to + e * element + (panel * rows + c) * panel_columns<T> + column, values[e]);
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
        V values[elements], half[3 * n];
        for (int e = 0; e < elements; ++e)
          values[e] = load(from + e * element + c * row + o);
        for (int i = 0; i < 3; ++i) {
          for (int j = 0; j < n; ++j) {
            half[i * n + j] = V{};
            for (int k = 0; k < n; ++k)
              half[i * n + j] += T(Matrices::g[k][i]) * values[k * n + j];
          }
        }
        for (int i = 0; i < 3; ++i) {
          for (int j = 0; j < 3; ++j) {
            V sum = {};
            for (int k = 0; k < n; ++k)
              sum += T(Matrices::g[k][j]) * half[i * n + k];
            store_some(dw + ((i * 3 + j) * in + c) * out + o, sum, out - o);
          }
        }
      }
    });
  }

  // ---- passes ----

  // Tiles of one task: their transformed values fill about the L2 cache, yet even one image makes
  // several tasks.
  static Index tiles_of_task(Index channels, Index tiles) {
    const Index fitting = (1 << 20) / (elements * static_cast<Index>(sizeof(T)) * channels);
    const Index most = std::clamp<Index>(round_up(fitting, 8), 32, 128);
    return std::clamp<Index>(round_up(divide_up(tiles, 8), 8), 8, most);
  }

  // Convolves images [batch, height, width, in] to [batch, out_height, out_width, out].
  static void forward(Index batch, Index height, Index width, Index in, Index padding, Index out,
                      const T* input, const T* packed, T* output) {
    const Grid grid{height + 2 * padding - 2, width + 2 * padding - 2};
    const Index tiles = batch * grid.tiles(), task_tiles = tiles_of_task(in + out, tiles);
    Scratch scratch;
    const Values all_inputs(scratch, num_threads(), task_tiles, in, lanes<T>);
    const Values all_outputs(scratch, num_threads(), task_tiles, out, panel_columns<T>);
    parallel_for(divide_up(tiles, task_tiles), [&](Index task, int thread) {
      const Values inputs = all_inputs.copy(thread), outputs = all_outputs.copy(thread);
      const Index begin = task * task_tiles, count = std::min(task_tiles, tiles - begin);
      for (Index t = 0; t < count; ++t) {
        const Index image = (begin + t) / grid.tiles(), at = (begin + t) % grid.tiles();
        transform_input(input + image * height * width * in, height, width, in,
                        at / grid.tiles_x * m - padding, at % grid.tiles_x * m - padding, inputs,
                        t);
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
        product.a = inputs.at(e, 0, 0);
        product.a_row = lanes<T>;
        product.a_step = inputs.tiles * lanes<T>;
        product.a_inner = 1;
        product.b = packed;
        product.b_step = lanes<T> * panel_columns<T>;
        product.b_inner = panel_columns<T>;
        product.c = outputs.at(e, o, 0);
        product.c_row = panel_columns<T>;
        product.steps = rows / lanes<T>;
        product.inner = lanes<T>;
        multiply(product, tiles, panel_columns<T>, 0);
      }
    }
  }

  static void backward_weight(Index batch, Index height, Index width, Index in, Index padding,
                              Index out, const T* input, const T* dy, T* dw) {
    const Grid grid{height + 2 * padding - 2, width + 2 * padding - 2};
    const Index tiles = batch * grid.tiles();
    const Index chunk = std::min(2 * tiles_of_task(in + out, tiles), tiles);
    const Index row = round_up(out, panel_columns<T>);
    Scratch scratch;
    const Values inputs(scratch, 1, chunk, in, lanes<T>);
    const Values gradients(scratch, 1, chunk, out, panel_columns<T>);
    T* sums = scratch.take<T>(elements * padded_in(in) * row);
    for (Index begin = 0; begin < tiles; begin += chunk) {
      const Index count = std::min(chunk, tiles - begin);
      parallel_ranges(count, 4, [&](Index first, Index last) {
        for (Index t = first; t < last; ++t) {
          const Index image = (begin + t) / grid.tiles(), at = (begin + t) % grid.tiles();
          const Index y = at / grid.tiles_x * m, x = at % grid.tiles_x * m;
          transform_input(input + image * height * width * in, height, width, in, y - padding,
                          x - padding, inputs, t);
          transform_gradient(dy + image * grid.height * grid.width * out, grid, out, y, x,
                             gradients, t);
        }
      });
      parallel_for(elements * (row / panel_columns<T>), [&](Index task) {
        const Index e = task % elements, o = task / elements * panel_columns<T>;
        for (Index c = 0; c < in; c += lanes<T>) {
          Product<T> product{};
          product.a = inputs.at(e, c, 0);
          product.a_row = 1;
          product.a_inner = lanes<T>;
          product.b = gradients.at(e, o, 0);
          product.b_inner = panel_columns<T>;
          product.c = sums + (e * padded_in(in) + c) * row + o;
          product.c_row = row;
          product.steps = 1;
          product.inner = count;
          product.add = begin > 0;
          multiply(product, lanes<T>, panel_columns<T>, 0);
        }
      });
    }
    transform_weight_gradient(sums, in, out, dw);
  }
};

}  // namespace chalk::cpu
