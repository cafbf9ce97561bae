// Convolution, second rung: kernel_height strided matrix products on the padded image.
//
// The usual way to a matrix product, im2col, copies every input pixel once for each of the
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

#include "autograd/cpu/matmul.h"

namespace chalk::cpu {

// A part of the images: some channels of a rectangle of pixels that may lie partly outside.
template <typename T>
struct Window {
  const T* images;
  Index height, width, pitch;  // of the images; pitch: channels from one pixel to the next
  Index top, left, rows, columns;
  Index channel, channels;

  bool needs_copy() const {
    return top < 0 || left < 0 || top + rows > height || left + columns > width ||
           channels != pitch;
  }
  const T* pixel(Index n, Index y, Index x) const {
    return images + ((n * height + y) * width + x) * pitch + channel;
  }
  // Writes row `row` of the window of image n, zeros outside: [columns, channels].
  void copy_row(Index n, Index row, T* to) const {
    const Index y = top + row;
    const Index begin = std::clamp<Index>(-left, 0, columns);
    const Index end = y < 0 || y >= height ? begin : std::clamp(width - left, begin, columns);
    std::fill(to, to + begin * channels, T(0));
    std::fill(to + end * channels, to + columns * channels, T(0));
    if (begin == end) return;
    const T* from = pixel(n, y, left + begin);
    if (channels == pitch) {
      std::copy(from, from + (end - begin) * channels, to + begin * channels);
      return;
    }
    for (Index x = begin; x < end; ++x, from += pitch) {
      std::copy(from, from + channels, to + x * channels);
    }
  }
};

// out[n, h, w, o] = sum over i, j, c of image[n, h stride + i + top, w stride + j + left, c]
//                                      * weight[i, j, c, o]
// with image as in Window, the weight packed in panels of [i, j, c] x [o], and the elements of out
// out_image, out_row, out_pixel apart for consecutive n, h, w.
template <typename T>
struct Correlation {
  const T* image;
  Index batch, height, width, pitch, channel, channels;
  Index top, left, stride;
  Index kernel_height, kernel_width;
  const T* packed;
  T* out;
  Index out_height, out_width, out_channels;
  Index out_image, out_row, out_pixel;

  void run() const;
};

// Output rows for one task: enough tasks for many threads, whose input still fits the L2 cache.
inline Index rows_of_task(Index out_height, Index bytes_of_row) {
  const Index fitting = std::max<Index>(1, (192 << 10) / std::max<Index>(1, bytes_of_row));
  const Index tasks =
      std::max<Index>(divide_up(out_height, fitting), std::min<Index>(4, out_height));
  return divide_up(out_height, tasks);
}

template <typename T>
void Correlation<T>::run() const {
  const Index columns = (out_width - 1) * stride + kernel_width, row = columns * channels;
  const Index task_rows = rows_of_task(out_height, row * stride * static_cast<Index>(sizeof(T)));
  const Index image_tasks = divide_up(out_height, task_rows);
  const Index slice = ((task_rows - 1) * stride + kernel_height) * row;
  const Index inner = kernel_width * channels;
  Scratch scratch;
  T* windows = scratch.take<T>(slice * num_threads());
  parallel_for(batch * image_tasks, [&](Index task, int thread) {
    const Index n = task / image_tasks, begin = task % image_tasks * task_rows;
    const Index end = std::min(out_height, begin + task_rows);
    const Window<T> window{image,
                           height,
                           width,
                           pitch,
                           top + begin * stride,
                           left,
                           (end - begin - 1) * stride + kernel_height,
                           columns,
                           channel,
                           channels};
    const bool copy = window.needs_copy();
    T* copied = windows + thread * slice;
    for (Index r = 0; copy && r < window.rows; ++r)
      window.copy_row(n, r, copied + r * row);
    const Index a_line = copy ? row : width * pitch;

    Product<T> product{};
    const T* first = copy ? copied : window.pixel(n, window.top, window.left);
    product.a_row = stride * channels;
    product.a_step = a_line;
    product.a_inner = 1;
    product.b_step = inner * panel_columns<T>;
    product.b_inner = panel_columns<T>;
    product.c_row = out_pixel;
    product.steps = kernel_height;
    product.inner = inner;
    for (Index o = 0; o < out_channels; o += panel_columns<T>) {  // a panel stays in the cache
      product.b = packed + o * kernel_height * inner;
      for (Index h = begin; h < end; ++h) {
        product.a = first + (h - begin) * stride * a_line;
        product.c = out + n * out_image + h * out_row + o;
        multiply(product, out_width, std::min(out_channels - o, panel_columns<T>));
      }
    }
  });
}

// Whether the convolution is one product of [pixels, in_channels] and [in_channels, out_channels].
inline bool is_matmul(const Conv2dSizes& s) {
  return s.kernel_height == 1 && s.kernel_width == 1 && s.stride == 1 && s.padding == 0 &&
         s.groups == 1;
}

// Elements of the packed weight of one group with this many taps and channels.
template <typename T>
Index packed_size(Index taps, Index in_channels, Index out_channels) {
  return taps * in_channels * round_up(out_channels, panel_columns<T>);
}

// Packs the weight [kernel_height, kernel_width, in / groups, out] of every group for the forward
// pass: to[group] is panels of [taps * in / groups] x [out / groups].
template <typename T>
void pack_forward(const Conv2dSizes& s, const T* weight, T* to) {
  const Index in = s.in_channels / s.groups, out = s.out_channels / s.groups;
  const Index rows = s.kernel_height * s.kernel_width * in,
              panels = divide_up(out, panel_columns<T>);
  parallel_for(s.groups * panels, [&](Index task) {
    const Index group = task / panels, o = task % panels * panel_columns<T>;
    pack_panel(weight + group * out + o, s.out_channels, 1, rows,
               std::min(panel_columns<T>, out - o), to + task * rows * panel_columns<T>);
  });
}

template <typename T>
Index packed_forward_size(const Conv2dSizes& s) {
  return s.groups * packed_size<T>(s.kernel_height * s.kernel_width, s.in_channels / s.groups,
                                   s.out_channels / s.groups);
}

// packed: what pack_forward made.
template <typename T>
void conv2d_gemm_forward(const Conv2dSizes& s, const T* input, const T* packed, T* output) {
  const Index in = s.in_channels / s.groups, out = s.out_channels / s.groups;
  const Index row = s.out_width() * s.out_channels;
  for (Index group = 0; group < s.groups; ++group) {
    Correlation<T>{.image = input,
                   .batch = s.batch,
                   .height = s.height,
                   .width = s.width,
                   .pitch = s.in_channels,
                   .channel = group * in,
                   .channels = in,
                   .top = -s.padding,
                   .left = -s.padding,
                   .stride = s.stride,
                   .kernel_height = s.kernel_height,
                   .kernel_width = s.kernel_width,
                   .packed = packed + group * packed_forward_size<T>(s) / s.groups,
                   .out = output + group * out,
                   .out_height = s.out_height(),
                   .out_width = s.out_width(),
                   .out_channels = out,
                   .out_image = s.out_height() * row,
                   .out_row = row,
                   .out_pixel = s.out_channels}
        .run();
  }
}

// One direction of the gradient of the input, for the pixels whose padded position is `phase`
// modulo the stride. A pixel at padded position stride q + phase lies under the taps
// phase + stride t of the output pixels q - t, t < taps; its first one in the image is q = begin.
struct Phase {
  Index phase, taps, begin, count;

  static Phase of(Index phase, Index stride, Index padding, Index kernel, Index size) {
    const Index begin = divide_up(std::max<Index>(padding - phase, 0), stride);
    return {phase, kernel > phase ? divide_up(kernel - phase, stride) : 0, begin,
            std::max<Index>(0, divide_up(size + padding - phase, stride) - begin)};
  }
};

// The weight for one phase, as panels of [taps_y, taps_x, out] x [in]: both kernel axes reversed.
template <typename T>
void pack_backward(const Conv2dSizes& s, const Phase& y, const Phase& x, Index group,
                   const T* weight, T* to) {
  const Index in = s.in_channels / s.groups, out = s.out_channels / s.groups;
  const Index taps = y.taps * x.taps;
  parallel_for(divide_up(in, panel_columns<T>) * taps, [&](Index task) {
    const Index tap = task % taps, c = task / taps * panel_columns<T>;
    const Index i = y.phase + s.stride * (y.taps - 1 - tap / x.taps);
    const Index j = x.phase + s.stride * (x.taps - 1 - tap % x.taps);
    pack_panel(weight + ((i * s.kernel_width + j) * in + c) * s.out_channels + group * out, 1,
               s.out_channels, out, std::min(panel_columns<T>, in - c),
               to + (c * taps + tap * panel_columns<T>)*out);
  });
}

template <typename T>
void conv2d_gemm_backward_input(const Conv2dSizes& s, const T* dy, const T* weight, T* dx) {
  const Index in = s.in_channels / s.groups, out = s.out_channels / s.groups;
  if (is_matmul(s)) {
    return matmul(1, s.batch * s.height * s.width, out, in, dy, 0, false, weight, 0, true, dx);
  }
  Scratch scratch;
  T* packed = scratch.take<T>(packed_size<T>(s.kernel_height * s.kernel_width, out, in));
  if (s.stride > std::min(s.kernel_height, s.kernel_width)) {  // some pixels lie under no tap
    std::fill(dx, dx + s.batch * s.height * s.width * s.in_channels, T(0));
  }
  for (Index position = 0; position < s.stride * s.stride; ++position) {
    const Phase y = Phase::of(position / s.stride, s.stride, s.padding, s.kernel_height, s.height);
    const Phase x = Phase::of(position % s.stride, s.stride, s.padding, s.kernel_width, s.width);
    if (y.taps * x.taps * y.count * x.count == 0) continue;
    const Index h = s.stride * y.begin + y.phase - s.padding;  // the first pixel of dx
    const Index w = s.stride * x.begin + x.phase - s.padding;
    for (Index group = 0; group < s.groups; ++group) {
      pack_backward(s, y, x, group, weight, packed);
      Correlation<T>{.image = dy,
                     .batch = s.batch,
                     .height = s.out_height(),
                     .width = s.out_width(),
                     .pitch = s.out_channels,
                     .channel = group * out,
                     .channels = out,
                     .top = y.begin - (y.taps - 1),
                     .left = x.begin - (x.taps - 1),
                     .stride = 1,
                     .kernel_height = y.taps,
                     .kernel_width = x.taps,
                     .packed = packed,
                     .out = dx + (h * s.width + w) * s.in_channels + group * in,
                     .out_height = y.count,
                     .out_width = x.count,
                     .out_channels = in,
                     .out_image = s.height * s.width * s.in_channels,
                     .out_row = s.stride * s.width * s.in_channels,
                     .out_pixel = s.stride * s.in_channels}
          .run();
    }
  }
}

// The sum over all output pixels goes in chunks of output rows, in order: all threads prepare a
// chunk (windows of x, panels of dy), then each adds its own part of dw.
template <typename T>
struct WeightGradient {
  const Conv2dSizes& s;
  const T* input;
  const T* dy;
  T* dw;
  Index group;

  const Index in = s.in_channels / s.groups, out = s.out_channels / s.groups;
  const Index width = s.out_width();
  const Index columns = (width - 1) * s.stride + s.kernel_width;
  const Index panels = divide_up(out, panel_columns<T>);
  const Index chunk_rows = choose_chunk_rows();
  const Index chunks = divide_up(s.out_height(), chunk_rows);  // of an image
  const Index window_rows = (chunk_rows - 1) * s.stride + s.kernel_height;
  const Index images = std::max<Index>(1, 56 / (chunk_rows * width));  // in a chunk

  Index choose_chunk_rows() const {
    const Index row = (s.stride * columns * in + width * out) * static_cast<Index>(sizeof(T));
    return std::clamp<Index>((1 << 20) / row, 1, s.out_height());
  }

  // Copies one window row, or packs one row of dy, of the images [n, n + images).
  void prepare(const Window<T>& window, Index n, Index begin, Index end, T* windows,
               T* panels_of_dy) const {
    const Index copied = window.needs_copy() ? window.rows : 0, rows = end - begin;
    const Index count = std::min(images, s.batch - n);
    parallel_for(count * (copied + rows), [&](Index task) {
      const Index m = task / (copied + rows), row = task % (copied + rows);
      if (row < copied) {
        window.copy_row(n + m, row, windows + (m * window_rows + row) * columns * in);
        return;
      }
      const Index h = begin + row - copied;
      const T* from = dy + ((n + m) * s.out_height() + h) * width * s.out_channels + group * out;
      for (Index p = 0; p < panels; ++p) {
        const Index o = p * panel_columns<T>;
        const Index line = (p * images + m) * chunk_rows + h - begin;
        pack_panel(from + o, s.out_channels, 1, width, std::min(panel_columns<T>, out - o),
                   panels_of_dy + line * width * panel_columns<T>);
      }
    });
  }

  // Adds the products of the prepared rows to dw.
  void accumulate(const Window<T>& window, Index n, Index rows, const T* windows,
                  const T* panels_of_dy, bool add) const {
    const Index height = s.kernel_width * in, unit = std::min(height, 8 * tile_rows);
    const Index units = divide_up(height, unit);
    parallel_for(s.kernel_height * units * panels, [&](Index task) {
      const Index p = task % panels, i = task / panels / units, k = task / panels % units * unit;
      const Index o = p * panel_columns<T>;
      for (Index m = 0; m < std::min(images, s.batch - n); ++m) {
        const bool copied = window.needs_copy();
        const Index line = copied ? columns * in : s.width * s.in_channels;
        Product<T> product{};
        product.a = (copied ? windows + m * window_rows * line
                            : window.pixel(n + m, window.top, window.left)) +
                    i * line + k;
        product.a_row = 1;
        product.a_step = s.stride * line;
        product.a_inner = s.stride * in;
        product.b = panels_of_dy + (p * images + m) * chunk_rows * width * panel_columns<T>;
        product.b_step = width * panel_columns<T>;
        product.b_inner = panel_columns<T>;
        product.c = dw + (i * height + k) * s.out_channels + group * out + o;
        product.c_row = s.out_channels;
        product.steps = rows;
        product.inner = width;
        product.add = add || m > 0;
        multiply(product, std::min(unit, height - k), std::min(panel_columns<T>, out - o), 0);
      }
    });
  }

  void run() const {
    Scratch scratch;
    T* windows = scratch.take<T>(images * window_rows * columns * in);
    T* panels_of_dy = scratch.take<T>(panels * images * chunk_rows * width * panel_columns<T>);
    for (Index n = 0; n < s.batch; n += images) {
      for (Index begin = 0; begin < s.out_height(); begin += chunk_rows) {
        const Index end = std::min(s.out_height(), begin + chunk_rows);
        const Window<T> window{input,
                               s.height,
                               s.width,
                               s.in_channels,
                               begin * s.stride - s.padding,
                               -s.padding,
                               (end - begin - 1) * s.stride + s.kernel_height,
                               columns,
                               group * in,
                               in};
        prepare(window, n, begin, end, windows, panels_of_dy);
        accumulate(window, n, end - begin, windows, panels_of_dy, n + begin > 0);
      }
    }
  }
};

template <typename T>
void conv2d_gemm_backward_weight(const Conv2dSizes& s, const T* input, const T* dy, T* dw) {
  if (is_matmul(s)) {
    return matmul(1, s.in_channels, s.batch * s.height * s.width, s.out_channels, input, 0, true,
                  dy, 0, false, dw);
  }
  for (Index group = 0; group < s.groups; ++group) {
    WeightGradient<T>{s, input, dy, dw, group}.run();
  }
}

}  // namespace chalk::cpu
