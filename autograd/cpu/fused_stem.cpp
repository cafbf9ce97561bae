#include "autograd/cpu/fused_stem.h"

#include "autograd/cpu/batch_norm.h"
#include "autograd/cpu/pool.h"

namespace chalk::cpu {

// Where ReLU cut off the whole window there is no position: windows have at most 15 x 15 pixels.
constexpr std::uint8_t no_position = 255;

// One output pixel for every channel. Since max(., 0) is monotonic it may come after the pooling.
// winner, if not nullptr, receives the x behind the maximum, even where that is cut off.
template <typename T>
void stem_pixel(const Pool2dSizes& sizes, const PoolWindow& rows, const PoolWindow& columns,
                const T* image, const T* mean, const T* scale, const T* beta, T* y, T* winner,
                std::uint8_t* position) {
  for_each_tile(sizes.channels, [&](Index first, auto width) {
    T best[tile_width], best_x[tile_width], m[tile_width], s[tile_width], b[tile_width];
    IntegerLike<T> where[tile_width] = {};
    std::copy(mean + first, mean + first + width, m);
    std::copy(scale + first, scale + first + width, s);
    std::copy(beta + first, beta + first + width, b);
    std::fill(best, best + width, -std::numeric_limits<T>::infinity());
    std::copy(m, m + width, best_x);
    for (Index i = rows.begin; i < rows.end; ++i) {
      for (Index j = columns.begin; j < columns.end; ++j) {
        const Index pixel = (rows.origin + i) * sizes.width + columns.origin + j;
        const T* x = image + pixel * sizes.channels + first;
        const auto tap = static_cast<IntegerLike<T>>(i * sizes.kernel + j);
#pragma omp simd
        for (Index c = 0; c < width; ++c) {
          const T value = normalised(x[c], m[c], s[c], b[c]);
          const bool better = takes_over(value, best[c]);
          best[c] = better ? value : best[c];
          best_x[c] = better ? x[c] : best_x[c];
          where[c] = better ? tap : where[c];
        }
      }
    }
    for (Index c = 0; c < width; ++c)
      y[first + c] = zero_if(best[c] <= 0, best[c]);
    if (winner == nullptr) return;
    std::copy(best_x, best_x + width, winner + first);
    for (Index c = 0; c < width; ++c)
      position[first + c] = best[c] <= 0 ? no_position : static_cast<std::uint8_t>(where[c]);
  });
}

template <typename T>
void batch_norm_max_pool2d(const Pool2dSizes& sizes, const T* x, const T* mean,
                           const T* inverse_std, const T* gamma, const T* beta, T* y, T* winner,
                           std::uint8_t* position) {
  Scratch scratch;
  const T* scale = batch_norm_scale(sizes.channels, gamma, inverse_std, scratch);
  const Index out_height = sizes.out_height(), out_width = sizes.out_width();
  const Index image = sizes.height * sizes.width * sizes.channels;
  parallel_for(sizes.batch * out_height, [&](Index row) {
    const PoolWindow rows(row % out_height, sizes, sizes.height);
    for (Index w = 0; w < out_width; ++w) {
      const Index at = (row * out_width + w) * sizes.channels;
      stem_pixel(sizes, rows, PoolWindow(w, sizes, sizes.width), x + row / out_height * image, mean,
                 scale, beta, y + at, winner ? winner + at : nullptr,
                 position ? position + at : nullptr);
    }
  });
}

// The gradient g of batch norm's result is dy at the maxima that were not cut off, else 0; so its
// sums over all pixels, that batch norm's backward pass needs (see BatchNormGradient), are sums
// over the pooled pixels: sum(g) = sum(dy), sum(g (x - mean)) = sum(dy (winner - mean)). After
// that, one pass along the rows of x makes g and from it dx.
template <typename T>
void batch_norm_max_pool2d_backward(const Pool2dSizes& sizes, const T* x, const T* mean,
                                    const T* inverse_std, const T* gamma, const T* beta,
                                    bool training, const T* winner, const std::uint8_t* position,
                                    const T* dy, T* dx, T* dgamma, T* dbeta) {
  const Index channels = sizes.channels, length = sizes.width * channels;
  const Index pooled = sizes.batch * sizes.out_height() * sizes.out_width();
  Scratch scratch;
  const T* scale = batch_norm_scale(channels, gamma, inverse_std, scratch);
  double* sums = scratch.take<double>(2 * channels);
  batch_norm_sums(pooled, channels, winner, mean, scale, beta, true, dy, sums);
  const BatchNormGradient<T> gradient(sizes.batch * sizes.height * sizes.width, channels, sums,
                                      mean, scale, inverse_std, training, dgamma, dbeta, scratch);
  parallel_for(sizes.batch * sizes.height, [&](Index row) {
    T* to = dx + row * length;
    max_pool_backward_row(sizes, position, dy, row / sizes.height, row % sizes.height, to);
    for (Index w = 0; w < sizes.width; ++w) {
      const T* from = x + row * length + w * channels;
      T* pixel = to + w * channels;
#pragma omp simd
      for (Index c = 0; c < channels; ++c)
        pixel[c] = gradient(c, from[c], pixel[c]);
    }
  });
}

template void batch_norm_max_pool2d(const Pool2dSizes&, const float*, const float*, const float*,
                                    const float*, const float*, float*, float*, std::uint8_t*);
template void batch_norm_max_pool2d(const Pool2dSizes&, const double*, const double*, const double*,
                                    const double*, const double*, double*, double*, std::uint8_t*);
template void batch_norm_max_pool2d_backward(const Pool2dSizes&, const float*, const float*,
                                             const float*, const float*, const float*, bool,
                                             const float*, const std::uint8_t*, const float*,
                                             float*, float*, float*);
template void batch_norm_max_pool2d_backward(const Pool2dSizes&, const double*, const double*,
                                             const double*, const double*, const double*, bool,
                                             const double*, const std::uint8_t*, const double*,
                                             double*, double*, double*);

}  // namespace chalk::cpu
