// Convolution, third rung: kernel_height strided matrix products on the padded image.
//
// The usual way to a matrix product (conv2d_im2col.h) copies every input pixel once for each of the
// kernel's taps it falls under. With channels last no copy is needed: the pixels under one row of
// the kernel lie one after the other in memory, kernel_width * channels numbers in all. So for one
// row of output pixels (w) and one row of the kernel (i)
//
//   y[w, o] += sum over k of  x[first + w * stride * channels + k] * weight[i, k, o],
//              k < kernel_width * channels
//
// is a product whose matrix A overlaps itself: its rows are stride * channels apart. The sum over
// i is the kernel's `step`. Only the padding is copied: each task first copies the window of
// input rows it needs, with zeros around, into its cache.
//
// The gradient of the input is the same operation: dx at the pixels h = h0, h0 + stride, ... is an
// ordinary convolution, stride 1, of dy with every stride-th tap of the kernel, turned around.
// So there are stride^2 of them, which together do the work of the forward pass.
//
// The gradient of the weight is, for each row i of the kernel,
//   dw[i, k, o] = sum over output pixels of  x[first + w * stride * channels + k] * dy[w, o].
#pragma once

#include "autograd/cpu/conv2d_narrow.h"
#include "autograd/cpu/conv2d_window.h"
#include "autograd/cpu/matmul.h"

namespace chalk::cpu {

// Whether the convolution is one product of [pixels, in_channels] and [in_channels, out_channels].
inline bool is_matmul(const Conv2dSizes& s) {
  return s.kernel_height == 1 && s.kernel_width == 1 && s.stride == 1 && s.padding == 0 &&
         s.groups == 1;
}

// ---- groups ----

// Groups with few channels fill no vector. As many as fit one are taken together as one group,
// whose weight is zero between channels of different groups.
inline Conv2dSizes merge_groups(const Conv2dSizes& s, Index lanes) {
  Conv2dSizes merged = s;
  const Index out = s.out_channels / s.groups;
  for (Index together = 2; together * out <= lanes && together <= s.groups; ++together) {
    if (s.groups % together == 0) merged.groups = s.groups / together;
  }
  return merged;
}

// Calls visit(index in the weight of s, index in the weight of `merged`) for all of the former.
template <typename Visit>
void for_each_weight(const Conv2dSizes& s, const Conv2dSizes& merged, const Visit& visit) {
  const Index in = s.in_channels / s.groups, out = s.out_channels / s.groups;
  const Index together = s.groups / merged.groups;
  for (Index tap = 0; tap < s.kernel_height * s.kernel_width; ++tap) {
    for (Index c = 0; c < in; ++c) {
      for (Index o = 0; o < s.out_channels; ++o) {
        const Index merged_c = o / out % together * in + c;
        visit((tap * in + c) * s.out_channels + o,
              (tap * in * together + merged_c) * s.out_channels + o);
      }
    }
  }
}

inline Index weight_size(const Conv2dSizes& s) {
  return s.kernel_height * s.kernel_width * (s.in_channels / s.groups) * s.out_channels;
}

// The weight with the zeros between merged groups; itself where nothing is merged.
template <typename T>
const T* merge_weight(const Conv2dSizes& s, const Conv2dSizes& merged, const T* weight,
                      Scratch& scratch) {
  if (merged.groups == s.groups) return weight;
  T* filled = scratch.take<T>(weight_size(merged));
  std::fill(filled, filled + weight_size(merged), T(0));
  for_each_weight(s, merged, [&](Index from, Index to) { filled[to] = weight[from]; });
  return filled;
}

// ---- the weight of one correlation ----

// Where the numbers of a kernel are: tap (i, j), channel c, output o.
template <typename T>
struct Taps {
  const T* first;
  Index height, width, channels, outputs;
  Index i_step, j_step, c_step, o_step;

  Index packed_size() const {
    return height * width * channels * round_up(outputs, panel_columns<T>);
  }

  // [o, i, c, j] for narrow_rows, else panels of [i, j, c] x [o].
  void pack(bool narrow, T* to) const {
    const auto at = [this](Index i, Index j, Index c, Index o) {
      return first + i * i_step + j * j_step + c * c_step + o * o_step;
    };
    if (narrow) {
      for (Index p = 0; p < outputs * height * channels; ++p) {
        const T* row = at(p / channels % height, 0, p % channels, p / channels / height);
        for (Index j = 0; j < width; ++j)
          *to++ = row[j * j_step];
      }
      return;
    }
    const Index taps = height * width;
    parallel_for(divide_up(outputs, panel_columns<T>) * taps, [&](Index task) {
      const Index tap = task % taps, o = task / taps * panel_columns<T>;
      pack_panel(at(tap / width, tap % width, 0, o), c_step, o_step, channels,
                 std::min(panel_columns<T>, outputs - o),
                 to + (o * taps + tap * panel_columns<T>)*channels);
    });
  }
};

// ---- correlation: the forward pass, and each part of the gradient of the input ----

// Output rows for one task: enough tasks for many threads, whose input still fits the L2 cache.
inline Index rows_of_task(Index out_height, Index bytes_of_row) {
  const Index fitting = std::max<Index>(1, (192 << 10) / std::max<Index>(1, bytes_of_row));
  const Index tasks = std::max(divide_up(out_height, fitting), std::min<Index>(4, out_height));
  return divide_up(out_height, tasks);
}

// out[n, h, w, o] = sum over i, j, c of image[n, h stride + i + top, w stride + j + left, c]
//                                       * weight[i, j, c, o]
template <typename T>
struct Correlation {
  Image<const T> image;
  Index top, left, stride, kernel_height, kernel_width;
  const T* packed;  // of Taps
  Image<T> out;

  void run(Index batch) const {
    const Index columns = (out.width - 1) * stride + kernel_width;
    const Index row = columns * image.channels;
    const Index task_rows = rows_of_task(out.height, row * stride * static_cast<Index>(sizeof(T)));
    const Index image_tasks = divide_up(out.height, task_rows);
    const Index window_size = ((task_rows - 1) * stride + kernel_height) * row;
    const bool narrow = is_narrow<T>(stride, out.channels, out.width);
    const Index planes = narrow ? narrow_scratch<T>(task_rows, image.channels, kernel_height,
                                                    kernel_width, out.channels, out.width)
                                : 0;
    Scratch scratch;
    T* windows = scratch.take<T>((window_size + planes) * num_threads());
    parallel_for(batch * image_tasks, [&](Index task, int thread) {
      const Index n = task / image_tasks, begin = task % image_tasks * task_rows;
      const Index rows = std::min(task_rows, out.height - begin);
      const Window<T> window{image, top + begin * stride, left, (rows - 1) * stride + kernel_height,
                             columns};
      const bool copy = window.needs_copy();
      T* copied = windows + thread * (window_size + planes);
      for (Index r = 0; copy && r < window.rows; ++r)
        window.copy_row(n, r, copied + r * row);
      const T* first = copy ? copied : image.at(n, window.top, left);
      const Index line = copy ? row : image.row;
      Image<T> to = out;
      to.data = out.at(n, begin, 0);
      if (narrow) {
        narrow_rows(first, line, rows, image.channels, kernel_height, kernel_width, packed, to,
                    copied + window_size);
      } else {
        wide_rows(first, line, rows, to);
      }
    });
  }

  // `rows` rows of `to` from a window whose rows are `line` numbers apart.
  void wide_rows(const T* window, Index line, Index rows, const Image<T>& to) const {
    const Index inner = kernel_width * image.channels;
    Product<T> product{};
    product.a_row = stride * image.channels;
    product.a_step = line;
    product.a_inner = 1;
    product.b_step = inner * panel_columns<T>;
    product.b_inner = panel_columns<T>;
    product.c_row = to.pixel;
    product.steps = kernel_height;
    product.inner = inner;
    for (Index o = 0; o < to.channels; o += panel_columns<T>) {  // a panel stays in the cache
      product.b = packed + o * kernel_height * inner;
      for (Index h = 0; h < rows; ++h) {
        product.a = window + h * stride * line;
        product.c = to.at(0, h, 0) + o;
        multiply(product, to.width, std::min(to.channels - o, panel_columns<T>));
      }
    }
  }
};

// ---- forward ----

template <typename T>
Taps<T> forward_taps(const Conv2dSizes& s, const T* weight, Index group) {
  const Index in = s.in_channels / s.groups, out = s.out_channels / s.groups;
  return {weight + group * out,
          s.kernel_height,
          s.kernel_width,
          in,
          out,
          s.kernel_width * in * s.out_channels,
          in * s.out_channels,
          s.out_channels,
          1};
}

// Elements of what pack_forward makes: the packed taps of every group.
template <typename T>
Index packed_forward_size(const Conv2dSizes& sizes) {
  const Conv2dSizes s = merge_groups(sizes, lanes<T>);
  return s.groups * forward_taps<T>(s, nullptr, 0).packed_size();
}

template <typename T>
void pack_forward(const Conv2dSizes& sizes, const T* weight, T* to) {
  const Conv2dSizes s = merge_groups(sizes, lanes<T>);
  Scratch scratch;
  weight = merge_weight(sizes, s, weight, scratch);
  for (Index group = 0; group < s.groups; ++group) {
    const Taps<T> taps = forward_taps(s, weight, group);
    taps.pack(is_narrow<T>(s.stride, taps.outputs, s.out_width()), to + group * taps.packed_size());
  }
}

// packed: what pack_forward made.
template <typename T>
void conv2d_gemm_forward(const Conv2dSizes& sizes, const T* input, const T* packed, T* output) {
  const Conv2dSizes s = merge_groups(sizes, lanes<T>);
  const Index packed_group = packed_forward_size<T>(sizes) / s.groups;
  for (Index g = 0; g < s.groups; ++g) {
    const auto x = group_of(input, s.height, s.width, s.in_channels, s.groups, g);
    const auto y = group_of(output, s.out_height(), s.out_width(), s.out_channels, s.groups, g);
    Correlation<T>{x,
                   -s.padding,
                   -s.padding,
                   s.stride,
                   s.kernel_height,
                   s.kernel_width,
                   packed + g * packed_group,
                   y}
        .run(s.batch);
  }
}

// ---- gradient of the input ----

// One direction of it, for the pixels whose padded position is `phase` modulo the stride. The
// pixel at padded position stride q + phase lies under the taps phase + stride t of the output
// pixels q - t, t < taps; the first such pixel in the image has q = begin.
struct Phase {
  Index phase, taps, begin, count;

  static Phase of(Index phase, Index stride, Index padding, Index kernel, Index size) {
    const Index begin = divide_up(std::max<Index>(padding - phase, 0), stride);
    return {phase, kernel > phase ? divide_up(kernel - phase, stride) : 0, begin,
            std::max<Index>(0, divide_up(size + padding - phase, stride) - begin)};
  }
  Index first_pixel(Index stride, Index padding) const { return stride * begin + phase - padding; }
  Index last_tap(Index stride) const { return stride * (taps - 1) + phase; }
};

// The pixels of dx at one phase of each direction, for one group; `weight` as in s.
template <typename T>
void backward_phase(const Conv2dSizes& s, const Phase& y, const Phase& x, Index group,
                    const T* grad_output, const T* weight, T* grad_input) {
  if (y.taps * x.taps * y.count * x.count == 0) return;
  const auto dy =
      group_of(grad_output, s.out_height(), s.out_width(), s.out_channels, s.groups, group);
  auto dx = group_of(grad_input, s.height, s.width, s.in_channels, s.groups, group);
  dx.data = dx.at(0, y.first_pixel(s.stride, s.padding), x.first_pixel(s.stride, s.padding));
  dx = {dx.data, y.count, x.count, dx.channels, dx.image, s.stride * dx.row, s.stride * dx.pixel};
  const Index j_step = dx.channels * s.out_channels, i_step = s.kernel_width * j_step;
  const Taps<T> taps{
      weight + y.last_tap(s.stride) * i_step + x.last_tap(s.stride) * j_step + group * dy.channels,
      y.taps,
      x.taps,
      dy.channels,
      dx.channels,
      -s.stride * i_step,
      -s.stride * j_step,
      1,
      s.out_channels};
  Scratch scratch;
  T* packed = scratch.take<T>(taps.packed_size());
  taps.pack(is_narrow<T>(1, dx.channels, dx.width), packed);
  Correlation<T>{dy, y.begin - (y.taps - 1), x.begin - (x.taps - 1), 1, y.taps, x.taps, packed, dx}
      .run(s.batch);
}

// Where patches do not overlap in a row and nothing is padded, the pixels of a patch's row take
// the part of channels: dx[n, h, w, (j, c)], one product for all of them.
template <typename T>
void backward_patches(const Conv2dSizes& s, const Phase& y, const T* grad_output, const T* weight,
                      T* grad_input) {
  if (y.taps * y.count == 0) return;
  const auto dy = group_of(grad_output, s.out_height(), s.out_width(), s.out_channels, 1, 0);
  const Index row = s.width * s.in_channels, i_step = weight_size(s) / s.kernel_height;
  const Image<T> dx{grad_input + y.phase * row,     y.count,        s.out_width(),
                    s.kernel_width * s.in_channels, s.height * row, s.stride * row,
                    s.stride * s.in_channels};
  const Taps<T> taps{weight + y.last_tap(s.stride) * i_step,
                     y.taps,
                     1,
                     dy.channels,
                     dx.channels,
                     -s.stride * i_step,
                     0,
                     1,
                     s.out_channels};
  Scratch scratch;
  T* packed = scratch.take<T>(taps.packed_size());
  taps.pack(is_narrow<T>(1, dx.channels, dx.width), packed);
  Correlation<T>{dy, 1 - y.taps, 0, 1, y.taps, 1, packed, dx}.run(s.batch);
}

template <typename T>
void conv2d_gemm_backward_input(const Conv2dSizes& sizes, const T* dy, const T* weight, T* dx) {
  const Conv2dSizes s = merge_groups(sizes, lanes<T>);
  Scratch scratch;
  weight = merge_weight(sizes, s, weight, scratch);
  if (is_matmul(s)) {
    return matmul(1, s.batch * s.height * s.width, s.out_channels, s.in_channels, dy, 0, false,
                  weight, 0, true, dx);
  }
  const bool patches = s.groups == 1 && s.padding == 0 && s.stride >= s.kernel_width;
  if (patches || s.stride > std::min(s.kernel_height, s.kernel_width)) {
    const Index row = s.width * s.in_channels;
    parallel_for(s.batch * s.height, [&](Index h) {  // pixels under no tap
      std::fill(dx + h * row, dx + (h + 1) * row, T(0));
    });
  }
  // Every phase that a pixel has: as many as there are pixels, where the stride is larger.
  for (Index h = 0; h < std::min(s.stride, s.height); ++h) {
    const Phase y =
        Phase::of((h + s.padding) % s.stride, s.stride, s.padding, s.kernel_height, s.height);
    if (patches) backward_patches(s, y, dy, weight, dx);
    for (Index w = 0; !patches && w < std::min(s.stride, s.width); ++w) {
      const Phase x =
          Phase::of((w + s.padding) % s.stride, s.stride, s.padding, s.kernel_width, s.width);
      for (Index group = 0; group < s.groups; ++group) {
        backward_phase(s, y, x, group, dy, weight, dx);
      }
    }
  }
}

// ---- gradient of the weight ----

// The sum over all output pixels goes in pieces (see pieces_of_sum), a piece in chunks: some rows
// of dy of some images. A chunk is prepared (windows of x, panels of dy), then multiplied.
template <typename T>
struct WeightGradient {
  const Conv2dSizes& s;
  Image<const T> x, dy;
  T* dw;  // row (i, j, c) of [kernel_height, kernel_width, in / groups] at s.out_channels apart

  const Index in = x.channels, out = dy.channels, taps = s.kernel_width * in;
  const Index line = ((dy.width - 1) * s.stride + s.kernel_width) * in;  // of a window
  const Index panels = divide_up(out, panel_columns<T>), sums_row = round_up(out, lanes<T>);
  const Index rows = choose_rows();                                  // of dy, in a chunk
  const Index images = std::max<Index>(1, 256 / (rows * dy.width));  // in a chunk
  const Index window_rows = (rows - 1) * s.stride + s.kernel_height;

  struct Chunk {
    Index n, images, h, rows;
    Window<T> window;
    T *windows, *packed_dy;  // of this thread
  };

  // About 1 MiB a chunk, in even parts of an image.
  Index choose_rows() const {
    const Index bytes = (s.stride * line + dy.width * out) * static_cast<Index>(sizeof(T));
    return divide_up(dy.height, divide_up(dy.height * bytes, 1 << 20));
  }

  void run() const {
    const Index chunks_down = divide_up(dy.height, rows), size = s.kernel_height * taps * sums_row;
    const Index chunks = divide_up(s.batch, images) * chunks_down;
    const Index pieces = pieces_of_sum(chunks, size * static_cast<Index>(sizeof(T)));
    const Index windows_size = images * window_rows * line;
    const Index chunk_size = windows_size + panels * images * rows * dy.width * panel_columns<T>;
    Scratch scratch;
    T* sums = scratch.take<T>(pieces * size);
    T* buffers = scratch.take<T>((pieces > 1 ? num_threads() : 1) * chunk_size);
    parallel_for(pieces, [&](Index piece, int thread) {
      T* buffer = buffers + thread * chunk_size;
      const Index first = chunks * piece / pieces, last = chunks * (piece + 1) / pieces;
      for (Index at = first; at < last; ++at) {
        const Index n = at / chunks_down * images, h = at % chunks_down * rows;
        const Index count = std::min(rows, dy.height - h);
        const Window<T> window{x, h * s.stride - s.padding, -s.padding,
                               (count - 1) * s.stride + s.kernel_height, line / in};
        const Chunk chunk{n,      std::min(images, s.batch - n), h, count, window,
                          buffer, buffer + windows_size};
        prepare(chunk);
        accumulate(chunk, at > first, sums + piece * size);
      }
    });
    add_pieces(pieces, size, sums);
    for (Index k = 0; k < s.kernel_height * taps; ++k)
      std::copy(sums + k * sums_row, sums + k * sums_row + out, dw + k * s.out_channels);
  }

  // Copies the windows, and packs the rows of dy.
  void prepare(const Chunk& chunk) const {
    const Index copied = chunk.window.needs_copy() ? chunk.window.rows : 0;
    parallel_for(chunk.images * (copied + chunk.rows), [&](Index task) {
      const Index m = task / (copied + chunk.rows), row = task % (copied + chunk.rows);
      if (row < copied) {
        T* to = chunk.windows + (m * window_rows + row) * line;
        return chunk.window.copy_row(chunk.n + m, row, to);
      }
      for (Index p = 0; p < panels; ++p) {
        const Index o = p * panel_columns<T>, to = (p * images + m) * rows + row - copied;
        pack_panel(dy.at(chunk.n + m, chunk.h + row - copied, 0) + o, dy.pixel, 1, dy.width,
                   std::min(panel_columns<T>, out - o),
                   chunk.packed_dy + to * dy.width * panel_columns<T>);
      }
    });
  }

  // Adds the products of the chunk to sums [kernel_height, taps, sums_row], or sets them.
  void accumulate(const Chunk& chunk, bool add, T* sums) const {
    const Window<T>& window = chunk.window;
    const bool copied = window.needs_copy();
    const Index unit = std::min(taps, 8 * tile_rows), units = divide_up(taps, unit);
    parallel_for(s.kernel_height * units * panels, [&](Index task) {
      const Index p = task % panels, i = task / panels / units, k = task / panels % units * unit;
      Product<T> product{};
      product.a_row = 1;
      product.a_inner = s.stride * in;
      product.a_step = s.stride * (copied ? line : x.row);
      product.b_step = dy.width * panel_columns<T>;
      product.b_inner = panel_columns<T>;
      product.c = sums + (i * taps + k) * sums_row + p * panel_columns<T>;
      product.c_row = sums_row;
      product.steps = chunk.rows;
      product.inner = dy.width;
      for (Index m = 0; m < chunk.images; ++m) {
        product.a = k + (copied ? chunk.windows + (m * window_rows + i) * line
                                : x.at(chunk.n + m, window.top + i, window.left));
        product.b = chunk.packed_dy + (p * images + m) * rows * dy.width * panel_columns<T>;
        product.add = add || m > 0;
        multiply(product, std::min(unit, taps - k),
                 std::min(panel_columns<T>, sums_row - p * panel_columns<T>));
      }
    });
  }
};

template <typename T>
void conv2d_gemm_backward_weight(const Conv2dSizes& sizes, const T* input, const T* grad_output,
                                 T* grad_weight) {
  const Conv2dSizes s = merge_groups(sizes, lanes<T>);
  Scratch scratch;
  T* dw = s.groups == sizes.groups ? grad_weight : scratch.take<T>(weight_size(s));
  for (Index g = 0; g < s.groups; ++g) {
    const auto x = group_of(input, s.height, s.width, s.in_channels, s.groups, g);
    const auto dy =
        group_of(grad_output, s.out_height(), s.out_width(), s.out_channels, s.groups, g);
    const Index taps = s.kernel_width * x.channels;
    if (is_narrow_gradient<T>(s.stride, taps, dy.channels)) {
      const Window<T> whole{x, -s.padding, -s.padding, dy.height + s.kernel_height - 1,
                            dy.width + s.kernel_width - 1};
      narrow_backward_weight(s.batch, whole, dy, s.kernel_height, taps, dw + g * dy.channels,
                             s.out_channels);
    } else {
      WeightGradient<T>{s, x, dy, dw + g * dy.channels}.run();
    }
  }
  if (dw != grad_weight) {
    for_each_weight(sizes, s, [&](Index to, Index from) { grad_weight[to] = dw[from]; });
  }
}

}  // namespace chalk::cpu
