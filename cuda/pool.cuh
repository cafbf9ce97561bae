// Max pooling over windows, channels last.
//   x  [batch, height, width, channels]      y, position  [batch, out height, out width, channels]
// Output pixel (h, w) sees the input pixels (h stride - padding + i, w stride - padding + j) for
// i, j < kernel; i kernel + j is a pixel's position in the window. Padding is never looked at.
//
// Pixels are the rows of a matrix [pixels, channels]: how blocks share it is in columns.cuh.
#pragma once

#include <limits>

#include "cuda/columns.cuh"

namespace chalk::cuda {

// Pool2dSizes for kernels.
struct PoolShape {
  int batch, height, width, channels;
  int kernel, stride, padding;
  int out_height, out_width;

  explicit PoolShape(const Pool2dSizes& sizes)
      : batch(to_int(sizes.batch)),
        height(to_int(sizes.height)),
        width(to_int(sizes.width)),
        channels(to_int(sizes.channels)),
        kernel(to_int(sizes.kernel)),
        stride(to_int(sizes.stride)),
        padding(to_int(sizes.padding)),
        out_height(to_int(sizes.out_height())),
        out_width(to_int(sizes.out_width())) {
    to_int(sizes.batch * sizes.height * sizes.width * sizes.channels);
    to_int(sizes.batch * sizes.out_height() * sizes.out_width() * sizes.channels);
  }

  int pixels() const { return batch * height * width; }
  int out_pixels() const { return batch * out_height * out_width; }
};

// The window of one output pixel as far as it lies inside the image: rows and columns in
// [begin, end); `origin` is the row and column of its position 0.
struct PoolWindow {
  int image, row_origin, column_origin, row_begin, row_end, column_begin, column_end;

  __device__ PoolWindow(const PoolShape& shape, int pixel)
      : image(pixel / shape.out_width / shape.out_height),
        row_origin(pixel / shape.out_width % shape.out_height * shape.stride - shape.padding),
        column_origin(pixel % shape.out_width * shape.stride - shape.padding),
        row_begin(std::max(0, row_origin)),
        row_end(std::min(row_origin + shape.kernel, shape.height)),
        column_begin(std::max(0, column_origin)),
        column_end(std::min(column_origin + shape.kernel, shape.width)) {}

  __device__ int position(const PoolShape& shape, int row, int column) const {
    return (row - row_origin) * shape.kernel + column - column_origin;
  }
};

// Whether `value` takes the place of the maximum so far: if it is larger, or the first NaN.
template <typename T>
__device__ bool takes_over(T value, T best) {
  return value > best || (value != value && best == best);
}

// y = the maximum over the window (NaN counts as larger than all), position = where it is first
// found; n channels of an output pixel at a time.
template <typename T, int n>
__global__ void max_pool2d_kernel(PoolShape shape, const T* x, T* y, std::uint8_t* position) {
  const int packs = shape.channels / n;
  const ColumnPart part(shape.batch * shape.out_height * shape.out_width, packs);
  for (int pixel = part.begin; pixel < part.end; pixel += part.step) {
    const PoolWindow window(shape, pixel);
    Pack<T, n> best;
    Pack<std::uint8_t, n> where;
    for (int j = 0; j < n; ++j) {
      best.at[j] = -std::numeric_limits<T>::infinity();
      where.at[j] =
          static_cast<std::uint8_t>(window.position(shape, window.row_begin, window.column_begin));
    }
    for (int row = window.row_begin; row < window.row_end; ++row)
      for (int column = window.column_begin; column < window.column_end; ++column) {
        const int at = (window.image * shape.height + row) * shape.width + column;
        const Pack<T, n> value = load<n>(x, at * packs + part.column);
        const auto here = static_cast<std::uint8_t>(window.position(shape, row, column));
        for (int j = 0; j < n; ++j) {
          const bool better = takes_over(value.at[j], best.at[j]);
          best.at[j] = better ? value.at[j] : best.at[j];
          where.at[j] = better ? here : where.at[j];
        }
      }
    store(y, pixel * packs + part.column, best);
    store(position, pixel * packs + part.column, where);
  }
}

template <typename T>
void max_pool2d(const Pool2dSizes& sizes, const T* x, T* y, std::uint8_t* position) {
  const PoolShape shape(sizes);
  const int n = in_packs(shape.channels) ? 4 : 1;
  const ColumnCut cut = cut_columns(shape.out_pixels(), shape.channels / n);
  launch(n == 4 ? max_pool2d_kernel<T, 4> : max_pool2d_kernel<T, 1>, cut.grid(), cut.block, 0,
         shape, x, y, position);
}

// What reaches n channels of the input pixel in this column of this row of all images': the sum of
// dy over the windows whose maximum it was. It gathers from the output pixels that saw it, so no
// two threads write to one place.
template <int n, typename T>
__device__ Pack<T, n> max_pool_gradient(const PoolShape& shape, int row_of_all, int column_of_x,
                                        int pack, const std::uint8_t* position, const T* dy) {
  const int packs = shape.channels / n, image = row_of_all / shape.height;
  const int row = row_of_all % shape.height + shape.padding, column = column_of_x + shape.padding;
  const int first_row = row < shape.kernel ? 0 : (row - shape.kernel) / shape.stride + 1;
  const int first_column = column < shape.kernel ? 0 : (column - shape.kernel) / shape.stride + 1;
  const int last_row = std::min(row / shape.stride, shape.out_height - 1);
  const int last_column = std::min(column / shape.stride, shape.out_width - 1);
  Pack<T, n> sum{};
  for (int h = first_row; h <= last_row; ++h)
    for (int w = first_column; w <= last_column; ++w) {
      const int at = ((image * shape.out_height + h) * shape.out_width + w) * packs + pack;
      const int here = (row - h * shape.stride) * shape.kernel + column - w * shape.stride;
      const Pack<std::uint8_t, n> where = load<n>(position, at);
      const Pack<T, n> gradient = load<n>(dy, at);
      for (int j = 0; j < n; ++j)
        sum.at[j] += where.at[j] == here ? gradient.at[j] : T(0);
    }
  return sum;
}

// A block for each row of an image, so that only columns are left to be computed for a pixel.
inline ColumnCut cut_image_rows(const PoolShape& shape, int packs) {
  const ColumnCut cut = cut_columns(shape.width, packs);
  constexpr int most = 65535;  // of a grid in this dimension; then a block has several
  return {cut.tiles, static_cast<unsigned>(std::min(most, shape.batch * shape.height)), cut.block};
}

template <typename T, int n>
__global__ void max_pool2d_backward_kernel(PoolShape shape, const std::uint8_t* position,
                                           const T* dy, T* dx) {
  const int packs = shape.channels / n, pack = blockIdx.x * blockDim.x + threadIdx.x;
  if (pack >= packs) return;
  for (int row = blockIdx.y; row < shape.batch * shape.height; row += gridDim.y)
    for (int column = threadIdx.y; column < shape.width; column += blockDim.y)
      store(dx, (row * shape.width + column) * packs + pack,
            max_pool_gradient<n>(shape, row, column, pack, position, dy));
}

template <typename T>
void max_pool2d_backward(const Pool2dSizes& sizes, const std::uint8_t* position, const T* dy,
                         T* dx) {
  const PoolShape shape(sizes);
  const int n = in_packs(shape.channels) ? 4 : 1;
  const ColumnCut cut = cut_image_rows(shape, shape.channels / n);
  launch(n == 4 ? max_pool2d_backward_kernel<T, 4> : max_pool2d_backward_kernel<T, 1>, cut.grid(),
         cut.block, 0, shape, position, dy, dx);
}

}  // namespace chalk::cuda
