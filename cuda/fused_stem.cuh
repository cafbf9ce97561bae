// Batch norm, ReLU and max pool in one pass: how an image enters a ResNet.
//
//   y = max_pool2d(max(batch norm(x), 0))
//
// x is the largest tensor of the network; like this it is read once on the way forward, and read
// and written once on the way back. See pool.cuh for the shapes.
#pragma once

#include "cuda/batch_norm.cuh"
#include "cuda/pool.cuh"

namespace chalk::cuda {

// Where ReLU cut off the whole window there is no position: windows have at most 15 x 15 pixels.
constexpr std::uint8_t no_position = 255;

// n channels of an output pixel at a time. Since max(., 0) is monotonic it may come after the
// pooling. winner receives the x behind the maximum, even where that is cut off; winner and
// position may both be nullptr.
template <typename T, int n>
__global__ void stem_kernel(PoolShape shape, const T* x, const T* mean, const T* inverse_std,
                            const T* gamma, const T* beta, T* y, T* winner,
                            std::uint8_t* position) {
  const int packs = shape.channels / n;
  const ColumnPart part(shape.batch * shape.out_height * shape.out_width, packs);
  if (part.begin >= part.end) return;
  const Normalise<T, n> normalise(part.column, mean, inverse_std, gamma, beta);
  for (int pixel = part.begin; pixel < part.end; pixel += part.step) {
    const PoolWindow window(shape, pixel);
    Pack<T, n> best, best_x = normalise.mean;
    Pack<std::uint8_t, n> where{};
    for (int j = 0; j < n; ++j)
      best.at[j] = -std::numeric_limits<T>::infinity();
    for (int row = window.row_begin; row < window.row_end; ++row)
      for (int column = window.column_begin; column < window.column_end; ++column) {
        const int at = (window.image * shape.height + row) * shape.width + column;
        const Pack<T, n> value = load<n>(x, at * packs + part.column);
        const auto here = static_cast<std::uint8_t>(window.position(shape, row, column));
        for (int j = 0; j < n; ++j) {
          const T z = normalise(j, value.at[j]);
          const bool better = takes_over(z, best.at[j]);
          best.at[j] = better ? z : best.at[j];
          best_x.at[j] = better ? value.at[j] : best_x.at[j];
          where.at[j] = better ? here : where.at[j];
        }
      }
    for (int j = 0; j < n; ++j) {
      const bool cut = best.at[j] <= 0;
      best.at[j] = cut ? T(0) : best.at[j];
      where.at[j] = cut ? no_position : where.at[j];
    }
    store(y, pixel * packs + part.column, best);
    if (winner == nullptr) continue;
    store(winner, pixel * packs + part.column, best_x);
    store(position, pixel * packs + part.column, where);
  }
}

template <typename T>
void batch_norm_max_pool2d(const Pool2dSizes& sizes, const T* x, const T* mean,
                           const T* inverse_std, const T* gamma, const T* beta, T* y, T* winner,
                           std::uint8_t* position) {
  const PoolShape shape(sizes);
  const int n = in_packs(shape.channels) ? 4 : 1;
  const ColumnCut cut = cut_columns(shape.out_pixels(), shape.channels / n);
  launch(n == 4 ? stem_kernel<T, 4> : stem_kernel<T, 1>, cut.grid(), cut.block, 0, shape, x, mean,
         inverse_std, gamma, beta, y, winner, position);
}

// dx of n channels of an input pixel at a time, once along and constant are known
// (batch_norm_backward_finish).
template <typename T, int n>
__global__ void stem_backward_input(PoolShape shape, const T* x, const T* mean,
                                    const T* inverse_std, const T* gamma, const T* beta,
                                    const T* along, const T* constant, const std::uint8_t* position,
                                    const T* dy, T* dx) {
  const int packs = shape.channels / n, pack = blockIdx.x * blockDim.x + threadIdx.x;
  if (pack >= packs) return;
  const Normalise<T, n> normalise(pack, mean, inverse_std, gamma, beta);
  const InputGradient<T, n> input_gradient(pack, along, constant);
  for (int row = blockIdx.y; row < shape.batch * shape.height; row += gridDim.y)
    for (int column = threadIdx.y; column < shape.width; column += blockDim.y) {
      const int at = (row * shape.width + column) * packs + pack;
      const Pack<T, n> value = load<n>(x, at);
      Pack<T, n> gradient = max_pool_gradient<n>(shape, row, column, pack, position, dy);
      for (int j = 0; j < n; ++j)
        gradient.at[j] = input_gradient(normalise, j, value.at[j], gradient.at[j]);
      store(dx, at, gradient);
    }
}

// The gradient g of batch norm's result is dy at the maxima that were not cut off, else 0; so its
// sums over all pixels, that batch norm's backward pass needs, are sums over the pooled pixels:
// sum(g) = sum(dy), sum(g (x - mean)) = sum(dy (winner - mean)).
template <typename T>
void batch_norm_max_pool2d_backward(const Pool2dSizes& sizes, const T* x, const T* mean,
                                    const T* inverse_std, const T* gamma, const T* beta,
                                    bool training, const T* winner, const std::uint8_t* position,
                                    const T* dy, T* dx, T* dgamma, T* dbeta) {
  const PoolShape shape(sizes);
  const int n = in_packs(shape.channels) ? 4 : 1;
  Workspace workspace;
  T* along = workspace.take<T>(sizes.channels);
  T* constant = workspace.take<T>(sizes.channels);
  batch_norm_backward_sums(shape.out_pixels(), shape.channels, winner, mean, inverse_std, gamma,
                           beta, true, training ? shape.pixels() : 0, dy, dgamma, dbeta, along,
                           constant);
  const ColumnCut cut = cut_image_rows(shape, shape.channels / n);
  launch(n == 4 ? stem_backward_input<T, 4> : stem_backward_input<T, 1>, cut.grid(), cut.block, 0,
         shape, x, mean, inverse_std, gamma, beta, along, constant, position, dy, dx);
}

}  // namespace chalk::cuda
