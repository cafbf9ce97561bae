// Batch norm of x [rows, channels] over the rows; everything else is [channels]. How blocks walk
// down the rows and add up over them: columns.cuh.
#pragma once

#include "cuda/columns.cuh"

namespace chalk::cuda {

// ---- statistics: mean = sum(x) / rows, variance = sum((x - mean)^2) / rows ----
//
// In one pass over x: with a guess k of the mean and d = x - k,
//   mean = k + mean(d),  variance = mean(d^2) - mean(d)^2.
// In double, and with k near the mean, nothing is lost in that difference. k is the first row.

// pieces [gridDim.y, 2, channels]: sum(d) and sum(d^2) over the block's rows. n channels a thread.
template <typename T, int n>
__global__ void statistics_pieces(int rows, int channels, const T* x, double* pieces) {
  const ColumnPart part(rows, channels / n);
  double sum[2 * n] = {};
  if (part.begin < part.end) {
    const Pack<T, n> guess = load<n>(x, part.column);
    for (int row = part.begin; row < part.end; row += part.step) {
      const Pack<T, n> value = load<n>(x, row * (channels / n) + part.column);
      for (int j = 0; j < n; ++j) {
        const double d = static_cast<double>(value.at[j]) - static_cast<double>(guess.at[j]);
        sum[j] += d;
        sum[n + j] += d * d;
      }
    }
  }
  store_piece<2, n>(part, channels, sum, pieces);
}

// What batch norm collects for evaluation, on the device; batches may be nullptr.
template <typename T>
struct Running {
  T *mean, *variance;
  std::int64_t* batches;
  double momentum;
};

// (1 - momentum) before + moved
template <typename T>
__device__ T moved_running(T before, double momentum, T moved) {
  const T kept = static_cast<T>(1 - momentum);
  return kept == 0 ? moved : moved + kept * before;  // not 0 * NaN
}

// mean and inverse_std of all rows, from pieces [count, 2, channels]; moves the running statistics
// and counts the batch. guess [channels]: what the pieces were summed about.
template <typename T>
__global__ void statistics_finish(int rows, int channels, int count, const double* pieces,
                                  const T* guess, Running<T> running, T eps, T* mean,
                                  T* inverse_std) {
  double sum[2];
  add_pieces(count, channels, pieces, sum);
  const int c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c == 0 && threadIdx.y == 1 && running.batches != nullptr) ++*running.batches;
  if (threadIdx.y > 0 || c >= channels) return;
  const T about = rows > 0 ? guess[c] : T(0);  // read all, then write: no read waits for another
  const T mean_before = running.mean[c], variance_before = running.variance[c];
  const double n = rows, d = sum[0] / n, squares = sum[1] / n;
  const T m = static_cast<T>(d + static_cast<double>(about));
  const T v = static_cast<T>(squares - d * d < 0 ? 0 : squares - d * d);  // NaN stays NaN
  mean[c] = m;
  inverse_std[c] = 1 / std::sqrt(v + eps);
  const double momentum = running.momentum, unbiased = n / (n - 1);
  running.mean[c] = moved_running(mean_before, momentum, static_cast<T>(momentum) * m);
  running.variance[c] =
      moved_running(variance_before, momentum, static_cast<T>(momentum * unbiased) * v);
}

template <typename T>
void batch_norm_statistics(Index rows, Index channels, const T* x, double momentum, double eps,
                           T* running_mean, T* running_variance, std::int64_t* batches, T* mean,
                           T* inverse_std) {
  to_int(rows * channels);  // so that offsets fit
  const int n = in_packs(to_int(channels)) ? 4 : 1;
  const ColumnCut cut = cut_columns(to_int(rows), to_int(channels) / n);
  const int count = static_cast<int>(cut.pieces);
  Workspace workspace;
  double* pieces = workspace.take<double>(2 * count * channels);
  launch(n == 4 ? statistics_pieces<T, 4> : statistics_pieces<T, 1>, cut.grid(), cut.block,
         shared_for(2 * n), to_int(rows), to_int(channels), x, pieces);
  launch(statistics_finish<T>, finish_grid(to_int(channels)), finish_block(), shared_for(2),
         to_int(rows), to_int(channels), count, pieces, x,
         Running<T>{running_mean, running_variance, batches, momentum}, static_cast<T>(eps), mean,
         inverse_std);
}

// inverse_std = 1 / sqrt(variance + eps): in evaluation
template <typename T>
__global__ void inverse_std_kernel(int channels, const T* variance, T eps, T* inverse_std) {
  const int c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c < channels) inverse_std[c] = 1 / std::sqrt(variance[c] + eps);
}

template <typename T>
void batch_norm_inverse_std(Index channels, const T* variance, T eps, T* inverse_std) {
  launch(inverse_std_kernel<T>, blocks_for(to_int(channels), 256), 256, 0, to_int(channels),
         variance, eps, inverse_std);
}

// ---- forward ----

// What batch norm does to the elements of the n channels a thread has: y = (x - mean) scale + beta
// with scale = gamma inverse_std.
template <typename T, int n>
struct Normalise {
  Pack<T, n> mean, scale, beta;

  __device__ Normalise(int pack, const T* mean_of_x, const T* inverse_std, const T* gamma,
                       const T* beta_of_y)
      : mean(load<n>(mean_of_x, pack)),
        scale(load<n>(gamma, pack)),
        beta(load<n>(beta_of_y, pack)) {
    const Pack<T, n> inverse = load<n>(inverse_std, pack);
    for (int j = 0; j < n; ++j)
      scale.at[j] *= inverse.at[j];
  }

  __device__ T operator()(int j, T x) const { return (x - mean.at[j]) * scale.at[j] + beta.at[j]; }
};

// y = gamma (x - mean) inverse_std + beta; with_relu: max(that, 0). n channels a thread.
template <typename T, int n>
__global__ void batch_norm_kernel(int rows, int channels, const T* x, const T* mean,
                                  const T* inverse_std, const T* gamma, const T* beta,
                                  bool with_relu, T* y) {
  const ColumnPart part(rows, channels / n);
  if (part.begin >= part.end) return;
  const Normalise<T, n> normalise(part.column, mean, inverse_std, gamma, beta);
  for (int row = part.begin; row < part.end; row += part.step) {
    const int at = row * (channels / n) + part.column;
    Pack<T, n> value = load<n>(x, at);
    for (int j = 0; j < n; ++j) {
      const T z = normalise(j, value.at[j]);
      value.at[j] = with_relu && z <= 0 ? T(0) : z;
    }
    store(y, at, value);
  }
}

template <typename T>
void batch_norm(Index rows, Index channels, const T* x, const T* mean, const T* inverse_std,
                const T* gamma, const T* beta, bool with_relu, T* y) {
  to_int(rows * channels);  // so that offsets fit
  const int n = in_packs(to_int(channels)) ? 4 : 1;
  const ColumnCut cut = cut_columns(to_int(rows), to_int(channels) / n);
  launch(n == 4 ? batch_norm_kernel<T, 4> : batch_norm_kernel<T, 1>, cut.grid(), cut.block, 0,
         to_int(rows), to_int(channels), x, mean, inverse_std, gamma, beta, with_relu, y);
}

// ---- backward ----
//
// With g = dy, or 0 where with_relu cut y off, and s = gamma inverse_std:
//   dbeta = sum(g), dgamma = sum(g (x - mean)) inverse_std
//   training:  dx = s (g - dbeta / rows - (x - mean) inverse_std dgamma / rows)
//                 = s g - (along (x - mean) + constant)
//   else:      dx = s g, so along and constant are 0

// pieces [gridDim.y, 2, channels]: sum(g) and sum(g (x - mean)) over the block's rows.
template <typename T, int n>
__global__ void batch_norm_backward_pieces(int rows, int channels, const T* x, const T* mean,
                                           const T* inverse_std, const T* gamma, const T* beta,
                                           bool with_relu, const T* dy, double* pieces) {
  const ColumnPart part(rows, channels / n);
  double sum[2 * n] = {};
  if (part.begin < part.end) {
    const Normalise<T, n> normalise(part.column, mean, inverse_std, gamma, beta);
    for (int row = part.begin; row < part.end; row += part.step) {
      const int at = row * (channels / n) + part.column;
      const Pack<T, n> value = load<n>(x, at), gradient = load<n>(dy, at);
      for (int j = 0; j < n; ++j) {
        const bool cut = with_relu && normalise(j, value.at[j]) <= 0;
        const double g = cut ? 0 : static_cast<double>(gradient.at[j]);
        sum[j] += g;
        sum[n + j] += g * static_cast<double>(value.at[j] - normalise.mean.at[j]);
      }
    }
  }
  store_piece<2, n>(part, channels, sum, pieces);
}

// dgamma, dbeta, along and constant from pieces [count, 2, channels] of those sums. rows: those the
// mean was taken over, in training; else 0.
template <typename T>
__global__ void batch_norm_backward_finish(int rows, int channels, int count, const double* pieces,
                                           const T* inverse_std, const T* gamma, T* dgamma,
                                           T* dbeta, T* along, T* constant) {
  double sum[2];
  add_pieces(count, channels, pieces, sum);
  const int c = blockIdx.x * blockDim.x + threadIdx.x;
  if (threadIdx.y > 0 || c >= channels) return;
  const double inverse = static_cast<double>(inverse_std[c]);
  const double scale = static_cast<double>(gamma[c] * inverse_std[c]);
  const double each = rows > 0 ? scale / rows : 0;
  dbeta[c] = static_cast<T>(sum[0]);
  dgamma[c] = static_cast<T>(sum[1] * inverse);
  constant[c] = static_cast<T>(each * sum[0]);
  along[c] = static_cast<T>(each * sum[1] * inverse * inverse);
}

// dx = s g - (along (x - mean) + constant) for the n channels a thread has.
template <typename T, int n>
struct InputGradient {
  Pack<T, n> along, constant;

  __device__ InputGradient(int pack, const T* along_x, const T* constant_part)
      : along(load<n>(along_x, pack)), constant(load<n>(constant_part, pack)) {}

  __device__ T operator()(const Normalise<T, n>& normalise, int j, T x, T g) const {
    return normalise.scale.at[j] * g - (along.at[j] * (x - normalise.mean.at[j]) + constant.at[j]);
  }
};

template <typename T, int n>
__global__ void batch_norm_backward_input(int rows, int channels, const T* x, const T* mean,
                                          const T* inverse_std, const T* gamma, const T* beta,
                                          bool with_relu, const T* along, const T* constant,
                                          const T* dy, T* dx) {
  const ColumnPart part(rows, channels / n);
  if (part.begin >= part.end) return;
  const Normalise<T, n> normalise(part.column, mean, inverse_std, gamma, beta);
  const InputGradient<T, n> input_gradient(part.column, along, constant);
  for (int row = part.begin; row < part.end; row += part.step) {
    const int at = row * (channels / n) + part.column;
    const Pack<T, n> value = load<n>(x, at);
    Pack<T, n> gradient = load<n>(dy, at);
    for (int j = 0; j < n; ++j) {
      const bool cut = with_relu && normalise(j, value.at[j]) <= 0;
      gradient.at[j] = input_gradient(normalise, j, value.at[j], cut ? T(0) : gradient.at[j]);
    }
    store(dx, at, gradient);
  }
}

// dgamma, dbeta, along and constant of x [rows, channels] and dy; `mean_rows`: over how many rows
// x's mean was taken, in training; else 0.
template <typename T>
void batch_norm_backward_sums(int rows, int channels, const T* x, const T* mean,
                              const T* inverse_std, const T* gamma, const T* beta, bool with_relu,
                              int mean_rows, const T* dy, T* dgamma, T* dbeta, T* along,
                              T* constant) {
  const int n = in_packs(channels) ? 4 : 1;
  const ColumnCut cut = cut_columns(rows, channels / n);
  const int count = static_cast<int>(cut.pieces);
  Workspace workspace;
  double* pieces = workspace.take<double>(Index{2} * count * channels);
  launch(n == 4 ? batch_norm_backward_pieces<T, 4> : batch_norm_backward_pieces<T, 1>, cut.grid(),
         cut.block, shared_for(2 * n), rows, channels, x, mean, inverse_std, gamma, beta, with_relu,
         dy, pieces);
  launch(batch_norm_backward_finish<T>, finish_grid(channels), finish_block(), shared_for(2),
         mean_rows, channels, count, pieces, inverse_std, gamma, dgamma, dbeta, along, constant);
}

template <typename T>
void batch_norm_backward(Index rows, Index channels, const T* x, const T* mean,
                         const T* inverse_std, const T* gamma, const T* beta, bool with_relu,
                         bool training, const T* dy, T* dx, T* dgamma, T* dbeta) {
  to_int(rows * channels);  // so that offsets fit
  const int height = to_int(rows), width = to_int(channels), n = in_packs(width) ? 4 : 1;
  Workspace workspace;
  T* along = workspace.take<T>(channels);
  T* constant = workspace.take<T>(channels);
  batch_norm_backward_sums(height, width, x, mean, inverse_std, gamma, beta, with_relu,
                           training ? height : 0, dy, dgamma, dbeta, along, constant);
  const ColumnCut cut = cut_columns(height, width / n);
  launch(n == 4 ? batch_norm_backward_input<T, 4> : batch_norm_backward_input<T, 1>, cut.grid(),
         cut.block, 0, height, width, x, mean, inverse_std, gamma, beta, with_relu, along, constant,
         dy, dx);
}

}  // namespace chalk::cuda
