// Convolution with fewer channels on one side than a vector has lanes, stride 1 (CBAM's spatial
// attention has 2 and 1): with channels last most lanes would multiply padding. So here the
// vectors run along the image's rows, on planes, which is channels first for the time of one task.
//
//   y[h, w, o] = sum over i, c, j of  weight[o, i, c, j] * planes[h + i, c, w + j]
//
// is a product for the same kernel, whose B overlaps itself this time: its rows are 1 number apart.
#pragma once

#include "autograd/cpu/conv2d_window.h"
#include "autograd/cpu/matrix_kernel.h"
#include "autograd/cpu/parallel.h"
#include "autograd/cpu/scratch.h"

namespace chalk::cpu {

// Whether the output's rows fill vectors better than its channels do.
template <typename T>
bool is_narrow(Index stride, Index out_channels, Index out_width) {
  return stride == 1 && out_channels < lanes<T> &&
         out_channels * round_up(out_width, lanes<T>) < out_width * lanes<T>;
}

// A plane's row: room for whole panels of outputs and the taps to their right.
template <typename T>
Index narrow_plane_row(Index out_width, Index kernel_width) {
  return round_up(out_width, panel_columns<T>) + kernel_width;
}

// What narrow_rows needs: the planes, and one row of results.
template <typename T>
Index narrow_scratch(Index rows, Index channels, Index kernel_height, Index kernel_width,
                     Index out_channels, Index out_width) {
  return (rows + kernel_height - 1) * channels * narrow_plane_row<T>(out_width, kernel_width) +
         out_channels * out_width;
}

// `rows` rows of `out` from a window of rows + kernel_height - 1 rows, `line` numbers apart: first
// the planes [rows + kernel_height - 1, channels, narrow_plane_row], in `scratch`, then the
// products. weight [out.channels, kernel_height, channels, kernel_width].
template <typename T>
void narrow_rows(const T* window, Index line, Index rows, Index channels, Index kernel_height,
                 Index kernel_width, const T* weight, const Image<T>& out, T* scratch) {
  const Index plane_row = narrow_plane_row<T>(out.width, kernel_width);
  const Index columns = out.width + kernel_width - 1;
  const Index planes = (rows + kernel_height - 1) * channels;
  for (Index p = 0; p < planes; ++p) {
    const T* from = window + p / channels * line + p % channels;
    T* to = scratch + p * plane_row;
    for (Index x = 0; x < columns; ++x)
      to[x] = from[x * channels];
    std::fill(to + columns, to + plane_row, T(0));
  }
  T* result = scratch + planes * plane_row;
  Product<T> product{};
  product.a = weight;
  product.a_row = kernel_height * channels * kernel_width;
  product.a_step = kernel_width;
  product.a_inner = 1;
  product.b_step = plane_row;
  product.b_inner = 1;
  product.c = result;
  product.c_row = out.width;
  product.steps = kernel_height * channels;
  product.inner = kernel_width;
  for (Index h = 0; h < rows; ++h) {
    product.b = scratch + h * channels * plane_row;
    multiply(product, out.channels, out.width, panel_columns<T>);
    for (Index w = 0; w < out.width; ++w) {
      for (Index o = 0; o < out.channels; ++o)
        out.at(0, h, w)[o] = result[o * out.width + w];
    }
  }
}

// Whether the taps of a kernel row fill the lanes so much better than the output's channels that
// the weight gradient should have them as columns.
template <typename T>
bool is_narrow_gradient(Index stride, Index taps, Index out_channels) {
  return stride == 1 &&
         2 * out_channels * round_up(taps, lanes<T>) < taps * round_up(out_channels, lanes<T>);
}

// dw[o, i, k] = sum over y, w of  dy[o, y - i, w] * x[y, w channels + k],  k = (j, c)
// over rows y of the padded input; dy with kernel_height - 1 rows of zeros above and below makes
// one product of each image and output channel. Groups of images are summed apart, then added.
// The results go to dw[(i taps + k) dw_step + o].
template <typename T>
void narrow_backward_weight(Index batch, const Window<T>& window, const Image<const T>& dy,
                            Index kernel_height, Index taps, T* dw, Index dw_step) {
  const Index channels = window.image.channels, line = window.columns * channels;
  const Index plane = (dy.height + 2 * (kernel_height - 1)) * dy.width;
  const Index window_size = window.rows * line + panel_columns<T>;
  const Index size = dy.channels * kernel_height * taps;
  const Index images = divide_up(batch, 16), pieces = divide_up(batch, images);
  Scratch scratch;
  T* sums = scratch.take<T>(pieces * size);
  T* windows = scratch.take<T>(window_size * num_threads());
  T* planes = scratch.take<T>(dy.channels * plane * num_threads());
  std::fill(planes, planes + dy.channels * plane * num_threads(), T(0));
  std::fill(windows, windows + window_size * num_threads(), T(0));
  parallel_for(pieces, [&](Index piece, int thread) {
    T* x = windows + thread * window_size;
    T* gradient = planes + thread * dy.channels * plane;
    for (Index n = piece * images; n < std::min(batch, (piece + 1) * images); ++n) {
      for (Index r = 0; r < window.rows; ++r)
        window.copy_row(n, r, x + r * line);
      for (Index h = 0; h < dy.height; ++h) {
        for (Index w = 0; w < dy.width; ++w) {
          T* to = gradient + (h + kernel_height - 1) * dy.width + w;
          for (Index o = 0; o < dy.channels; ++o)
            to[o * plane] = dy.at(n, h, w)[o];
        }
      }
      for (Index o = 0; o < dy.channels; ++o) {
        Product<T> product{};
        product.a = gradient + o * plane + (kernel_height - 1) * dy.width;
        product.a_row = -dy.width;
        product.a_step = dy.width;
        product.a_inner = 1;
        product.b = x;
        product.b_step = line;
        product.b_inner = channels;
        product.c = sums + piece * size + o * kernel_height * taps;
        product.c_row = taps;
        product.steps = window.rows;
        product.inner = dy.width;
        product.add = n > piece * images;
        multiply(product, kernel_height, taps, panel_columns<T>);
      }
    }
  });
  add_pieces(pieces, size, sums);
  for (Index i = 0; i < size; ++i)
    dw[i % (kernel_height * taps) * dw_step + i / (kernel_height * taps)] = sums[i];
}

}  // namespace chalk::cpu
