// Max pooling over windows, channels last.
//   x  [batch, height, width, channels]      y, position  [batch, out height, out width, channels]
// Output pixel (h, w) sees the input pixels (h stride - padding + i, w stride - padding + j) for
// i, j < kernel; i kernel + j is a pixel's position in the window. Padding is never looked at.
#pragma once

#include "autograd/cpu/reduce.h"

namespace chalk::cpu {

// The part of a window that lies inside the image along one direction: i in [begin, end), and the
// input coordinate of i = 0.
struct PoolWindow {
  Index begin, end, origin;

  PoolWindow(Index out, const Pool2dSizes& sizes, Index size)
      : begin(std::max<Index>(0, sizes.padding - out * sizes.stride)),
        end(std::min(sizes.kernel, size + sizes.padding - out * sizes.stride)),
        origin(out * sizes.stride - sizes.padding) {}
};

// One output pixel: the maximum (NaN counts as larger than all) and the first position of it, for
// every channel. image, y and position begin at channel 0.
template <typename T>
void max_pool_pixel(const Pool2dSizes& sizes, const PoolWindow& rows, const PoolWindow& columns,
                    const T* image, T* y, std::uint8_t* position) {
  for_each_tile(sizes.channels, [&](Index first, auto width) {
    T best[tile_width];
    IntegerLike<T> where[tile_width];
    std::fill(best, best + width, -std::numeric_limits<T>::infinity());
    std::fill(where, where + width,
              static_cast<IntegerLike<T>>(rows.begin * sizes.kernel + columns.begin));
    for (Index i = rows.begin; i < rows.end; ++i) {
      for (Index j = columns.begin; j < columns.end; ++j) {
        const Index pixel = (rows.origin + i) * sizes.width + columns.origin + j;
        const T* x = image + pixel * sizes.channels + first;
        const auto tap = static_cast<IntegerLike<T>>(i * sizes.kernel + j);
#pragma omp simd
        for (Index c = 0; c < width; ++c) {
          const bool better = takes_over(x[c], best[c]);
          best[c] = better ? x[c] : best[c];
          where[c] = better ? tap : where[c];
        }
      }
    }
    std::copy(best, best + width, y + first);
#pragma omp simd
    for (Index c = 0; c < width; ++c)
      position[first + c] = static_cast<std::uint8_t>(where[c]);
  });
}

template <typename T>
void max_pool2d(const Pool2dSizes& sizes, const T* x, T* y, std::uint8_t* position) {
  const Index out_height = sizes.out_height(), out_width = sizes.out_width();
  const Index channels = sizes.channels, image = sizes.height * sizes.width * channels;
  parallel_for(sizes.batch * out_height, [&](Index row) {
    const PoolWindow rows(row % out_height, sizes, sizes.height);
    for (Index w = 0; w < out_width; ++w) {
      const PoolWindow columns(w, sizes, sizes.width);
      const Index at = (row * out_width + w) * channels;
      max_pool_pixel(sizes, rows, columns, x + row / out_height * image, y + at, position + at);
    }
  });
}

// One row of dx: the sum of dy over the windows whose maximum an element was. Input row h of image
// n gathers from the output rows that saw it.
template <typename T>
void max_pool_backward_row(const Pool2dSizes& sizes, const std::uint8_t* position, const T* dy,
                           Index n, Index h, T* dx_row) {
  const Index out_height = sizes.out_height(), out_width = sizes.out_width();
  const Index channels = sizes.channels, row = h + sizes.padding;
  std::fill(dx_row, dx_row + sizes.width * channels, T(0));
  const Index first = row < sizes.kernel ? 0 : (row - sizes.kernel) / sizes.stride + 1;
  for (Index out = first; out < out_height && out * sizes.stride <= row; ++out) {
    for (Index w = 0; w < out_width; ++w) {
      const PoolWindow columns(w, sizes, sizes.width);
      const Index at = ((n * out_height + out) * out_width + w) * channels;
      for (Index j = columns.begin; j < columns.end; ++j) {
        const auto tap = static_cast<std::uint8_t>((row - out * sizes.stride) * sizes.kernel + j);
        T* pixel = dx_row + (columns.origin + j) * channels;
#pragma omp simd
        for (Index c = 0; c < channels; ++c)
          pixel[c] += zero_if(position[at + c] != tap, dy[at + c]);
      }
    }
  }
}

template <typename T>
void max_pool2d_backward(const Pool2dSizes& sizes, const std::uint8_t* position, const T* dy,
                         T* dx) {
  parallel_for(sizes.batch * sizes.height, [&](Index row) {
    max_pool_backward_row(sizes, position, dy, row / sizes.height, row % sizes.height,
                          dx + row * sizes.width * sizes.channels);
  });
}

}  // namespace chalk::cpu
