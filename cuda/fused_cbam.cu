#include <algorithm>
#include <cmath>
#include <limits>

#include "cuda/batch_norm.cuh"
#include "cuda/fused_cbam.h"

namespace chalk::cuda {

// Blocks that see pixels have 32 of them below each other, threadIdx.y, and 8 threads for each,
// with n neighbouring channels at a time: 4 where channels can be had in packs, else 1. Threads
// beyond the last channel or pixel do the last one's work again, for there are barriers on the way,
// and store nothing. Blocks of the layers, which see an image's channels, are 8 warps.
constexpr int packs_of_block = 8, pixels_of_block = 32, pixels_of_thread = 2;
constexpr int strip = pixels_of_thread * pixels_of_block;  // where a block needs whole pixels
constexpr int piece = 4 * strip;                           // where it needs 8 packs of them
constexpr int lanes = 32, warps = 8;
constexpr int tile = 8, with_margin = tile + 6, taps = 7 * 7 * 2;  // where the 7x7 window goes
constexpr int channels_of_output = 64;  // of one block, which needs b of its pixels first

struct CbamShape {
  int images, height, width, pixels, channels, hidden;

  explicit CbamShape(const CbamSizes& s)
      : images(to_int(s.batch)),
        height(to_int(s.height)),
        width(to_int(s.width)),
        pixels(to_int(s.pixels())),
        channels(to_int(s.channels)),
        hidden(to_int(s.hidden)) {
    to_int(s.batch * s.pixels() * s.channels);  // an element's number is an int
    to_int(s.batch * s.channels * s.hidden);
  }

  constexpr int strips() const { return (pixels + strip - 1) / strip; }
  constexpr int pieces() const { return (pixels + piece - 1) / piece; }
  constexpr int tiles_in_row() const { return (width + tile - 1) / tile; }
  constexpr int tiles() const { return (height + tile - 1) / tile * tiles_in_row(); }
};

// Of a block in a grid whose x counts all images' strips, pieces or tiles, `parts` an image.
struct PartOfImage {
  int image, part;

  __device__ explicit PartOfImage(int parts)
      : image(blockIdx.x / parts), part(blockIdx.x % parts) {}
};

__device__ __forceinline__ int thread_of_block() {
  return threadIdx.y * blockDim.x + threadIdx.x;
}

// relu, and relu's derivative times dy; NaN stays NaN.
template <typename T>
__device__ __forceinline__ T zero_unless_positive(T y, T value) {
  return y <= 0 ? T(0) : value;
}

template <typename T>
__device__ __forceinline__ T sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}

// The sum over a warp's lanes, in all of them.
template <typename T>
__device__ __forceinline__ T sum_of_warp(T value) {
  for (int distance = lanes / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(~0u, value, distance);
  return value;
}

// In the first threads: what they and those below them have collected.
template <typename Collected, int n>
__device__ void merge_pixels(Collected (&collected)[n]) {
  over_lanes(collected, [](Collected a, const Collected& b) {
    a.merge(b);
    return a;
  });
  __syncthreads();  // the shared memory may be used again
}

// ---- forward ----

// Of some pixels of a channel. `highest` begins as u of the image's first pixel, whichever they
// are: if that is NaN it stays, as no number is higher; NaN elsewhere is in the sum alone.
template <typename T>
struct Pooled {
  T sum, highest;
  int pixel;

  __device__ void merge(const Pooled& other) {
    const bool first = other.highest == highest && other.pixel < pixel;
    const bool other_wins = other.highest > highest || first;
    sum += other.sum;
    highest = other_wins ? other.highest : highest;
    pixel = other_wins ? other.pixel : pixel;
  }
};

// pooled [N, pieces, C]. Grid [N pieces, C / 8 n].
template <typename T, int n>
__global__ void cbam_pool(CbamShape s, CbamWeights<T> w, const T* __restrict__ x,
                          Pooled<T>* __restrict__ pooled) {
  const PartOfImage block(s.pieces());
  const int packs = s.channels / n, own = blockIdx.y * packs_of_block + threadIdx.x;
  const int pack = std::min(own, packs - 1), begin = block.part * piece;
  const int end = std::min(s.pixels, begin + piece);
  const T* from = x + block.image * s.pixels * s.channels;
  const Normalise<T, n> norm(pack, w.mean, w.inverse_std, w.gamma, w.beta);
  const Pack<T, n> first = load<n>(from, pack);
  Pooled<T> mine[n];
  for (int j = 0; j < n; ++j)
    mine[j] = {0, norm(j, first.at[j]), 0};
#pragma unroll 4
  for (int p = begin + threadIdx.y; p < end; p += pixels_of_block) {
    const Pack<T, n> value = load<n>(from, p * packs + pack);
    for (int j = 0; j < n; ++j) {
      const T u = norm(j, value.at[j]);
      const bool higher = u > mine[j].highest;
      mine[j].sum += u;
      mine[j].highest = higher ? u : mine[j].highest;
      mine[j].pixel = higher ? p : mine[j].pixel;
    }
  }
  merge_pixels(mine);
  if (threadIdx.y > 0 || own >= packs) return;
  for (int j = 0; j < n; ++j)
    pooled[blockIdx.x * s.channels + pack * n + j] = mine[j];
}

// hidden [2, R] = relu(w1^T average), relu(w1^T highest) of an image: a warp an element.
template <typename T>
__device__ void hidden_layer(const CbamShape& s, const T* w1, const T* pooled, T* hidden) {
  for (int i = threadIdx.y; i < 2 * s.hidden; i += warps) {
    const int r = i % s.hidden;
    const T* values = pooled + i / s.hidden * s.channels;
    T sum = 0;
    for (int c = threadIdx.x; c < s.channels; c += lanes)
      sum += w1[c * s.hidden + r] * values[c];
    sum = sum_of_warp(sum);
    if (threadIdx.x == 0) hidden[i] = zero_unless_positive(sum, sum);
  }
}

// average, highest and its pixel; a = sigmoid(w2^T (the two rows of hidden)). A block an image.
template <typename T>
__global__ void cbam_channel_weights(CbamShape s, CbamWeights<T> w, const Pooled<T>* pieces,
                                     T* hidden_of_all, CbamImages<T> images) {
  const int n = blockIdx.x, at = n * s.channels;
  T *pooled = images.pooled + 2 * at, *hidden = hidden_of_all + n * 2 * s.hidden;
  pieces += at * s.pieces();
  for (int c = thread_of_block(); c < s.channels; c += warps * lanes) {
    Pooled<T> all = pieces[c];
    double sum = all.sum;
    for (int i = 1; i < s.pieces(); ++i) {
      const Pooled<T> next = pieces[i * s.channels + c];
      all.merge(next);
      sum += next.sum;
    }
    pooled[c] = static_cast<T>(sum / s.pixels);
    pooled[s.channels + c] = all.highest;
    images.pixel[at + c] = all.pixel;
  }
  __syncthreads();
  hidden_layer(s, w.w1, pooled, hidden);
  __syncthreads();
  for (int c = thread_of_block(); c < s.channels; c += warps * lanes) {
    T sum = 0;
    for (int r = 0; r < s.hidden; ++r)
      sum += w.w2[r * s.channels + c] * (hidden[r] + hidden[s.hidden + r]);
    images.channel_weight[at + c] = sigmoid(sum);
  }
}

// The first of the highest channels, where NaN is higher than all. It begins as the first of its
// channels would with -infinity.
template <typename T>
struct Highest {
  int channel;
  T value = -std::numeric_limits<T>::infinity();

  // Of a channel behind all that were seen so far.
  __device__ void next(T other, int at) {
    const bool higher = !(other <= value) && value == value;
    value = higher ? other : value;
    channel = higher ? at : channel;
  }

  __device__ void merge(T other, int at) {
    const bool nan = value != value, other_nan = other != other;
    const bool higher = other > value || (other_nan && !nan);
    const bool same = other == value || (other_nan && nan);
    const bool other_wins = higher || (same && at < channel);
    value = other_wins ? other : value;
    channel = other_wins ? at : channel;
  }
};

// m, h and its channel. Grid [N strips]; a few shuffles end 4 pixels of a warp at once.
template <typename T, int n>
__global__ void cbam_maps(CbamShape s, CbamWeights<T> w, const T* __restrict__ x,
                          CbamImages<T> images) {
  const PartOfImage block(s.strips());
  const int first = block.part * strip + threadIdx.y, packs = s.channels / n;
  const T* from = x + block.image * s.pixels * s.channels;
  const T* channel_weight = images.channel_weight + block.image * s.channels;
  T sum[pixels_of_thread] = {};
  Highest<T> highest[pixels_of_thread];
  for (int i = 0; i < pixels_of_thread; ++i)
    highest[i].channel = threadIdx.x * n;
#pragma unroll 2
  for (int pack = threadIdx.x; pack < packs; pack += packs_of_block) {
    const Normalise<T, n> norm(pack, w.mean, w.inverse_std, w.gamma, w.beta);
    const Pack<T, n> a = load<n>(channel_weight, pack);
    for (int i = 0; i < pixels_of_thread; ++i) {
      const int p = std::min(first + i * pixels_of_block, s.pixels - 1);
      const Pack<T, n> value = load<n>(from, p * packs + pack);
      for (int j = 0; j < n; ++j) {
        const T v = norm(j, value.at[j]) * a.at[j];
        sum[i] += v;
        highest[i].next(v, pack * n + j);
      }
    }
  }
  T* maps = images.maps + block.image * 2 * s.pixels;
  for (int i = 0; i < pixels_of_thread; ++i) {
    for (int distance = packs_of_block / 2; distance > 0; distance /= 2) {
      sum[i] += __shfl_xor_sync(~0u, sum[i], distance);
      highest[i].merge(__shfl_xor_sync(~0u, highest[i].value, distance),
                       __shfl_xor_sync(~0u, highest[i].channel, distance));
    }
    const int p = first + i * pixels_of_block;
    if (threadIdx.x == 0 && p < s.pixels) {
      maps[p] = sum[i] / static_cast<T>(s.channels);
      maps[s.pixels + p] = highest[i].value;
      images.channel[block.image * s.pixels + p] = highest[i].channel;
    }
  }
}

// to [14, 14] = a tile of plane [H, W] with a margin of 3, zeros outside of the plane.
template <typename T>
__device__ void load_tile(const CbamShape& s, const T* plane, int row, int column, T* to) {
  for (int i = thread_of_block(); i < with_margin * with_margin; i += blockDim.x * blockDim.y) {
    const int h = row - 3 + i / with_margin, w = column - 3 + i % with_margin;
    const bool inside = h >= 0 && h < s.height && w >= 0 && w < s.width;
    to[i] = inside ? plane[h * s.width + w] : T(0);
  }
}

template <typename T>
__device__ void load_taps(const T* w7, T* to) {
  for (int i = thread_of_block(); i < taps; i += blockDim.x * blockDim.y)
    to[i] = w7[i];
}

template <typename T>
struct TileForward {
  T maps[2][with_margin * with_margin], w7[taps], b[tile * tile];
};

// b of a tile's pixels, where four threads share a pixel's rows of the window; then y. Grid [N
// tiles, C / 64].
template <typename T, int n>
__global__ void cbam_output(CbamShape s, CbamWeights<T> w, const T* __restrict__ x,
                            const T* __restrict__ residual, CbamImages<T> images,
                            T* __restrict__ y) {
  const PartOfImage block(s.tiles());
  const int first_row = block.part / s.tiles_in_row() * tile;
  const int first_column = block.part % s.tiles_in_row() * tile;
  const int first_pixel = block.image * s.pixels;
  TileForward<T>& shared = *dynamic_shared<TileForward<T>>();
  load_tile(s, images.maps + 2 * first_pixel, first_row, first_column, shared.maps[0]);
  load_tile(s, images.maps + 2 * first_pixel + s.pixels, first_row, first_column, shared.maps[1]);
  load_taps(w.w7, shared.w7);
  __syncthreads();

  const int pixel = thread_of_block() / 4, part = thread_of_block() % 4;
  const int row = pixel / tile, column = pixel % tile;
  T t = 0;
  for (int i = part; i < 7; i += 4)
    for (int j = 0; j < 7; ++j)
      for (int k = 0; k < 2; ++k)
        t += shared.maps[k][(row + i) * with_margin + column + j] * shared.w7[(i * 7 + j) * 2 + k];
  t += __shfl_xor_sync(~0u, t, 1);
  t += __shfl_xor_sync(~0u, t, 2);
  if (part == 0) {
    const int h = first_row + row, column_of_map = first_column + column;
    shared.b[pixel] = sigmoid(t);
    if (blockIdx.y == 0 && h < s.height && column_of_map < s.width)
      images.pixel_weight[first_pixel + h * s.width + column_of_map] = shared.b[pixel];
  }
  __syncthreads();

  const int packs = s.channels / n, begin = blockIdx.y * channels_of_output / n;
  const int end = std::min(packs, begin + channels_of_output / n);
  for (int pack = begin + threadIdx.x; pack < end; pack += packs_of_block) {
    const Normalise<T, n> norm(pack, w.mean, w.inverse_std, w.gamma, w.beta);
    const Pack<T, n> a = load<n>(images.channel_weight + block.image * s.channels, pack);
    for (int i = 0; i < pixels_of_thread; ++i) {
      const int of_tile = threadIdx.y + i * pixels_of_block;
      const int h = first_row + of_tile / tile, column_of_map = first_column + of_tile % tile;
      const int p = std::min(h, s.height - 1) * s.width + std::min(column_of_map, s.width - 1);
      const int at = (first_pixel + p) * packs + pack;
      const Pack<T, n> value = load<n>(x, at);
      Pack<T, n> result = load<n>(residual, at);
      for (int j = 0; j < n; ++j) {
        const T z = norm(j, value.at[j]) * a.at[j] * shared.b[of_tile] + result.at[j];
        result.at[j] = zero_unless_positive(z, z);
      }
      if (h < s.height && column_of_map < s.width) store(y, at, result);
    }
  }
}

template <typename T>
void cbam_forward(const CbamSizes& sizes, const CbamWeights<T>& w, const T* x, const T* residual,
                  const CbamImages<T>& images, T* y) {
  const CbamShape s(sizes);
  const int n = in_packs(s.channels) ? 4 : 1;
  const dim3 block(packs_of_block, pixels_of_block);
  Workspace workspace;
  Pooled<T>* pooled = workspace.take<Pooled<T>>(sizes.batch * s.pieces() * sizes.channels);
  T* hidden = workspace.take<T>(sizes.batch * 2 * sizes.hidden);
  launch(n == 4 ? cbam_pool<T, 4> : cbam_pool<T, 1>,
         dim3(s.images * s.pieces(), blocks_for(s.channels / n, packs_of_block)), block,
         shared_for<Pooled<T>>(n), s, w, x, pooled);
  launch(cbam_channel_weights<T>, s.images, dim3(lanes, warps), 0, s, w, pooled, hidden, images);
  launch(n == 4 ? cbam_maps<T, 4> : cbam_maps<T, 1>, s.images * s.strips(), block, 0, s, w, x,
         images);
  launch(n == 4 ? cbam_output<T, 4> : cbam_output<T, 1>,
         dim3(s.images * s.tiles(), blocks_for(s.channels, channels_of_output)), block,
         sizeof(TileForward<T>), s, w, x, residual, images, y);
}

// ---- backward: autograd/cpu/fused_cbam.cpp derives it ----

// Sums over pixels of dv, dv d and d, of one channel.
template <typename T>
struct CbamSums {
  T dv, dv_d, d;

  __device__ void merge(const CbamSums& other) {
    dv += other.dv;
    dv_d += other.dv_d;
    d += other.d;
  }
};

// What the kernels leave for each other. Of every pointer image n has its own part.
template <typename T>
struct CbamGradients {
  T *dt, *dmaps;              // [N, P]; [N, 2, P]: dm / C, dh
  T* w7;                      // [N, tiles, 98]: dw7 of each tile
  CbamSums<T>* strips;        // [N, strips, C]: where dv is g b only
  CbamSums<double>* pieces;   // [N, pieces, C]
  T *ds, *dpooled;            // [N, C]; [N, 2, C]: daverage / P, dhighest
  T *hidden, *dhidden;        // [N, 2, R]; [N, R]: of the sum of the two rows of hidden
  double *sum_du, *sum_du_d;  // [N, C]
  T *along, *constant;        // [C]: of batch norm's backward pass

  CbamGradients(const CbamSizes& sizes, const CbamShape& s, Workspace& workspace)
      : dt(workspace.take<T>(sizes.batch * sizes.pixels())),
        dmaps(workspace.take<T>(sizes.batch * 2 * sizes.pixels())),
        w7(workspace.take<T>(sizes.batch * s.tiles() * taps)),
        strips(workspace.take<CbamSums<T>>(sizes.batch * s.strips() * sizes.channels)),
        pieces(workspace.take<CbamSums<double>>(sizes.batch * s.pieces() * sizes.channels)),
        ds(workspace.take<T>(sizes.batch * sizes.channels)),
        dpooled(workspace.take<T>(sizes.batch * 2 * sizes.channels)),
        hidden(workspace.take<T>(sizes.batch * 2 * sizes.hidden)),
        dhidden(workspace.take<T>(sizes.batch * sizes.hidden)),
        sum_du(workspace.take<double>(sizes.batch * sizes.channels)),
        sum_du_d(workspace.take<double>(sizes.batch * sizes.channels)),
        along(workspace.take<T>(sizes.channels)),
        constant(workspace.take<T>(sizes.channels)) {}
};

// g = dy where y > 0, which is dresidual; dt = db b (1 - b), db = sum over c of g v; and the sums
// of a strip. Grid [N strips]; threads as in cbam_maps. Beyond the last pixel or channel all is 0.
template <typename T, int n>
__global__ void cbam_back_to_pixels(CbamShape s, CbamWeights<T> w, CbamImages<T> images,
                                    const T* __restrict__ x, const T* __restrict__ y,
                                    const T* __restrict__ dy, T* __restrict__ g,
                                    CbamGradients<T> d) {
  const PartOfImage block(s.strips());
  const int first = block.part * strip + threadIdx.y, packs = s.channels / n;
  const int first_pixel = block.image * s.pixels;
  const T* channel_weight = images.channel_weight + block.image * s.channels;
  T b[pixels_of_thread], db[pixels_of_thread] = {};
  for (int i = 0; i < pixels_of_thread; ++i)
    b[i] = images.pixel_weight[first_pixel + std::min(first + i * pixels_of_block, s.pixels - 1)];
  for (int begin = 0; begin < packs; begin += packs_of_block) {
    const int own = begin + threadIdx.x, pack = std::min(own, packs - 1);
    const Normalise<T, n> norm(pack, w.mean, w.inverse_std, w.gamma, w.beta);
    const Pack<T, n> a = load<n>(channel_weight, pack);
    CbamSums<T> sums[n] = {};
    for (int i = 0; i < pixels_of_thread; ++i) {
      const int p = first + i * pixels_of_block;
      const int at = (first_pixel + std::min(p, s.pixels - 1)) * packs + pack;
      const bool inside = p < s.pixels && own < packs;
      const Pack<T, n> value = load<n>(x, at), result = load<n>(y, at);
      Pack<T, n> gradient = load<n>(dy, at);
      for (int j = 0; j < n; ++j) {
        gradient.at[j] = zero_unless_positive(result.at[j], gradient.at[j]);
        const T g_b = inside ? gradient.at[j] * b[i] : T(0);
        const T from_mean = inside ? value.at[j] - norm.mean.at[j] : T(0);
        db[i] += inside ? gradient.at[j] * norm(j, value.at[j]) * a.at[j] : T(0);
        sums[j].merge({g_b, g_b * from_mean, from_mean});
      }
      if (inside) store(g, at, gradient);
    }
    merge_pixels(sums);
    if (threadIdx.y > 0 || own >= packs) continue;
    for (int j = 0; j < n; ++j)
      d.strips[blockIdx.x * s.channels + pack * n + j] = sums[j];
  }
  for (int i = 0; i < pixels_of_thread; ++i) {
    for (int distance = packs_of_block / 2; distance > 0; distance /= 2)
      db[i] += __shfl_xor_sync(~0u, db[i], distance);
    const int p = first + i * pixels_of_block;
    if (threadIdx.x == 0 && p < s.pixels) d.dt[first_pixel + p] = db[i] * b[i] * (1 - b[i]);
  }
}

template <typename T>
struct TileBackward {
  T dt[with_margin * with_margin], maps[2][with_margin * with_margin], w7[taps];
};

// dm / C and dh, where dm, dh = dt convolved with w7 turned round, a thread a pixel of one of them;
// dw7 of the tile = correlation of (m, h) with dt, a thread a tap. Grid [N tiles], 128 threads.
template <typename T>
__global__ void cbam_back_to_maps(CbamShape s, const T* w7, const T* maps, CbamGradients<T> d) {
  const PartOfImage block(s.tiles());
  const int first_row = block.part / s.tiles_in_row() * tile;
  const int first_column = block.part % s.tiles_in_row() * tile;
  const int first_pixel = block.image * s.pixels;
  TileBackward<T>& shared = *dynamic_shared<TileBackward<T>>();
  load_tile(s, d.dt + first_pixel, first_row, first_column, shared.dt);
  load_tile(s, maps + 2 * first_pixel, first_row, first_column, shared.maps[0]);
  load_tile(s, maps + 2 * first_pixel + s.pixels, first_row, first_column, shared.maps[1]);
  load_taps(w7, shared.w7);
  __syncthreads();

  const int map = threadIdx.x / (tile * tile), pixel = threadIdx.x % (tile * tile);
  const int row = pixel / tile, column = pixel % tile;
  T gradient = 0;
  for (int i = 0; i < 7; ++i)
    for (int j = 0; j < 7; ++j)
      gradient += shared.dt[(row + i) * with_margin + column + j] *
                  shared.w7[((6 - i) * 7 + 6 - j) * 2 + map];
  const int h = first_row + row, column_of_map = first_column + column;
  if (h < s.height && column_of_map < s.width)
    d.dmaps[2 * first_pixel + map * s.pixels + h * s.width + column_of_map] =
        map == 0 ? gradient / static_cast<T>(s.channels) : gradient;

  if (threadIdx.x >= taps) return;
  const int i = threadIdx.x / 14, j = threadIdx.x / 2 % 7, k = threadIdx.x % 2;
  T sum = 0;
  for (int r = 0; r < tile; ++r)
    for (int c = 0; c < tile; ++c)
      sum +=
          shared.maps[k][(r + i) * with_margin + c + j] * shared.dt[(r + 3) * with_margin + c + 3];
  d.w7[blockIdx.x * taps + threadIdx.x] = sum;
}

// The sums of a piece, of dv = g b + dm / C + (dh where h was found): those of g b are known for
// its strips, one for each of the first rows of threads. Grid [N pieces, C / 8 n].
template <typename T, int n>
__global__ void cbam_sums(CbamShape s, const T* mean, const std::int64_t* channel,
                          const T* __restrict__ x, CbamGradients<T> d) {
  const PartOfImage block(s.pieces());
  const int packs = s.channels / n, own = blockIdx.y * packs_of_block + threadIdx.x;
  const int pack = std::min(own, packs - 1), begin = block.part * piece;
  const int end = std::min(s.pixels, begin + piece), first_pixel = block.image * s.pixels;
  const T* dmaps = d.dmaps + 2 * first_pixel;
  const Pack<T, n> mean_of_channel = load<n>(mean, pack);
  CbamSums<T> sums[n] = {};
  const int own_strip = begin / strip + threadIdx.y;
  if (threadIdx.y < piece / strip && own_strip < s.strips())
    for (int j = 0; j < n; ++j)
      sums[j] = d.strips[(block.image * s.strips() + own_strip) * s.channels + pack * n + j];
#pragma unroll 4
  for (int p = begin + threadIdx.y; p < end; p += pixels_of_block) {
    const T dm = dmaps[p], dh = dmaps[s.pixels + p];
    const int found = static_cast<int>(channel[first_pixel + p]) - pack * n;
    const Pack<T, n> value = load<n>(x, (first_pixel + p) * packs + pack);
    for (int j = 0; j < n; ++j) {
      const T dv = dm + (found == j ? dh : T(0));
      sums[j].merge({dv, dv * (value.at[j] - mean_of_channel.at[j]), 0});
    }
  }
  CbamSums<double> all[n];
  for (int j = 0; j < n; ++j)
    all[j] = {sums[j].dv, sums[j].dv_d, sums[j].d};
  merge_pixels(all);
  if (threadIdx.y > 0 || own >= packs) return;
  for (int j = 0; j < n; ++j)
    d.pieces[blockIdx.x * s.channels + pack * n + j] = all[j];
}

// ds [C], where da = sum(dv u) and u = d scale + beta; the pieces' sums in the place of the first.
template <typename T>
__device__ void back_to_channel_weights(const CbamShape& s, const CbamWeights<T>& w,
                                        const T* channel_weight, CbamSums<double>* pieces, T* ds) {
  for (int c = thread_of_block(); c < s.channels; c += warps * lanes) {
    CbamSums<double> sums = pieces[c];
    for (int i = 1; i < s.pieces(); ++i)
      sums.merge(pieces[i * s.channels + c]);
    pieces[c] = sums;
    const T scale = w.gamma[c] * w.inverse_std[c];
    const double a = channel_weight[c], da = sums.dv_d * scale + sums.dv * w.beta[c];
    ds[c] = static_cast<T>(da * a * (1 - a));
  }
}

// daverage / P and dhighest [2, C], and the sums of du = dv a + daverage / P + (dhighest where
// highest was found).
template <typename T>
__device__ void back_to_pooled(const CbamShape& s, const CbamWeights<T>& w,
                               const CbamImages<T>& images, const T* x, int n,
                               const CbamGradients<T>& d) {
  const T *hidden = d.hidden + n * 2 * s.hidden, *dhidden = d.dhidden + n * s.hidden;
  for (int c = thread_of_block(); c < s.channels; c += warps * lanes) {
    T daverage = 0, dhighest = 0;
    for (int r = 0; r < s.hidden; ++r) {
      const T gradient = w.w1[c * s.hidden + r] * dhidden[r];
      daverage += zero_unless_positive(hidden[r], gradient);
      dhighest += zero_unless_positive(hidden[s.hidden + r], gradient);
    }
    const int at = n * s.channels + c;
    const int highest = (n * s.pixels + static_cast<int>(images.pixel[at])) * s.channels + c;
    const CbamSums<double> sums = d.pieces[n * s.pieces() * s.channels + c];
    const double a = images.channel_weight[at], average = daverage;
    d.dpooled[2 * n * s.channels + c] = daverage / static_cast<T>(s.pixels);
    d.dpooled[(2 * n + 1) * s.channels + c] = dhighest;
    d.sum_du[at] = a * sums.dv + average + dhighest;
    d.sum_du_d[at] = a * sums.dv_d + average * sums.d / s.pixels +
                     static_cast<double>(dhighest) * (x[highest] - w.mean[c]);
  }
}

// Back through the channel attention's layers. A block an image; for dhidden a warp an element,
// else a thread.
template <typename T>
__global__ void cbam_back_to_layers(CbamShape s, CbamWeights<T> w, CbamImages<T> images, const T* x,
                                    CbamGradients<T> d) {
  const int n = blockIdx.x;
  T* ds = d.ds + n * s.channels;
  hidden_layer(s, w.w1, images.pooled + n * 2 * s.channels, d.hidden + n * 2 * s.hidden);
  back_to_channel_weights(s, w, images.channel_weight + n * s.channels,
                          d.pieces + n * s.pieces() * s.channels, ds);
  __syncthreads();
  for (int r = threadIdx.y; r < s.hidden; r += warps) {
    T sum = 0;
    for (int c = threadIdx.x; c < s.channels; c += lanes)
      sum += w.w2[r * s.channels + c] * ds[c];
    sum = sum_of_warp(sum);
    if (threadIdx.x == 0) d.dhidden[n * s.hidden + r] = sum;
  }
  __syncthreads();
  back_to_pooled(s, w, images, x, n, d);
}

// This thread's part of dw1 [c, r] and dw2 [r, c].
template <typename T>
__device__ void sum_layers(const CbamShape& s, const T* pooled, const CbamGradients<T>& d, int c,
                           int r, double (&sum)[2]) {
  for (int n = threadIdx.y; n < s.images; n += blockDim.y) {
    const T *values = pooled + 2 * n * s.channels + c, *hidden = d.hidden + 2 * n * s.hidden + r;
    const T average = hidden[0], highest = hidden[s.hidden], dhidden = d.dhidden[n * s.hidden + r];
    sum[0] += zero_unless_positive(average, values[0] * dhidden) +
              zero_unless_positive(highest, values[s.channels] * dhidden);
    sum[1] += (average + highest) * d.ds[n * s.channels + c];
  }
}

// dbeta, dgamma and, of dx = scale du - along d - constant, the two sums' part.
template <typename T>
__device__ void end_batch_norm(const CbamShape& s, const CbamWeights<T>& w, bool training,
                               const CbamGradients<T>& d, int c, const double (&sum)[2],
                               const CbamResults<T>& results) {
  const T inverse_std = w.inverse_std[c], rows = static_cast<T>(s.images) * s.pixels;
  const T dbeta = static_cast<T>(sum[0]), dgamma = static_cast<T>(sum[1]) * inverse_std;
  const T each = w.gamma[c] * inverse_std / rows;
  results.beta[c] = dbeta;
  results.gamma[c] = dgamma;
  d.constant[c] = training ? each * dbeta : T(0);
  d.along[c] = training ? each * inverse_std * dgamma : T(0);
}

// The sums over images. threadIdx.x: an element of w1 and w2, then of w7, then of gamma and beta;
// the threads below each other share its images, or their tiles.
template <typename T>
__global__ void cbam_parameters(CbamShape s, CbamWeights<T> w, const T* pooled, bool training,
                                CbamGradients<T> d, CbamResults<T> results) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, layers = s.channels * s.hidden;
  const int tap = i - layers, c = tap - taps;
  double sum[2] = {};
  if (i < layers) {
    sum_layers(s, pooled, d, i / s.hidden, i % s.hidden, sum);
  } else if (tap < taps) {
#pragma unroll 8
    for (int t = threadIdx.y; t < s.images * s.tiles(); t += blockDim.y)
      sum[0] += d.w7[t * taps + tap];
  } else if (c < s.channels) {
    for (int n = threadIdx.y; n < s.images; n += blockDim.y) {
      sum[0] += d.sum_du[n * s.channels + c];
      sum[1] += d.sum_du_d[n * s.channels + c];
    }
  }
  sum_over_lanes(sum);
  if (threadIdx.y > 0) return;
  if (i < layers) {
    results.w1[i] = static_cast<T>(sum[0]);
    results.w2[i % s.hidden * s.channels + i / s.hidden] = static_cast<T>(sum[1]);
  } else if (tap < taps) {
    results.w7[tap] = static_cast<T>(sum[0]);
  } else if (c < s.channels) {
    end_batch_norm(s, w, training, d, c, sum, results);
  }
}

// dx = scale du - along d - constant. Grid [N strips, C / 8 n]; n channels a thread.
template <typename T, int n>
__global__ void cbam_back_to_input(CbamShape s, CbamWeights<T> w, CbamImages<T> images,
                                   const T* __restrict__ x, const T* __restrict__ g,
                                   CbamGradients<T> d, T* __restrict__ dx) {
  const PartOfImage block(s.strips());
  const int packs = s.channels / n, pack = blockIdx.y * packs_of_block + threadIdx.x;
  if (pack >= packs) return;
  const int first = block.part * strip + threadIdx.y, first_pixel = block.image * s.pixels;
  const T *dmaps = d.dmaps + 2 * first_pixel, *dpooled = d.dpooled + 2 * block.image * s.channels;
  const Normalise<T, n> norm(pack, w.mean, w.inverse_std, w.gamma, w.beta);
  const Pack<T, n> a = load<n>(images.channel_weight + block.image * s.channels, pack);
  const Pack<T, n> daverage = load<n>(dpooled, pack), dhighest = load<n>(dpooled, packs + pack);
  const Pack<T, n> along = load<n>(d.along, pack), constant = load<n>(d.constant, pack);
  const Pack<std::int64_t, n> highest = load<n>(images.pixel + block.image * s.channels, pack);
  for (int i = 0; i < pixels_of_thread; ++i) {
    const int own = first + i * pixels_of_block, p = std::min(own, s.pixels - 1);
    const int at = (first_pixel + p) * packs + pack;
    const T b = images.pixel_weight[first_pixel + p], dm = dmaps[p], dh = dmaps[s.pixels + p];
    const int found = static_cast<int>(images.channel[first_pixel + p]) - pack * n;
    const Pack<T, n> value = load<n>(x, at);
    Pack<T, n> gradient = load<n>(g, at);
    for (int j = 0; j < n; ++j) {
      const T scale = norm.scale.at[j], dv = gradient.at[j] * b + dm + (found == j ? dh : T(0));
      gradient.at[j] = dv * (scale * a.at[j]) + (scale * daverage.at[j] - constant.at[j]) -
                       along.at[j] * (value.at[j] - norm.mean.at[j]) +
                       (highest.at[j] == p ? scale * dhighest.at[j] : T(0));
    }
    if (own < s.pixels) store(dx, at, gradient);
  }
}

template <typename T>
void cbam_backward(const CbamSizes& sizes, const CbamWeights<T>& w, const CbamImages<T>& images,
                   bool training, const T* x, const T* y, const T* dy,
                   const CbamResults<T>& results) {
  const CbamShape s(sizes);
  const int n = in_packs(s.channels) ? 4 : 1;
  const dim3 block(packs_of_block, pixels_of_block);
  const unsigned strips = s.images * s.strips(), pieces = s.images * s.pieces();
  const unsigned packs = blocks_for(s.channels / n, packs_of_block);
  Workspace workspace;
  const CbamGradients<T> d(sizes, s, workspace);
  launch(n == 4 ? cbam_back_to_pixels<T, 4> : cbam_back_to_pixels<T, 1>, strips, block,
         shared_for<CbamSums<T>>(n), s, w, images, x, y, dy, results.residual, d);
  launch(cbam_back_to_maps<T>, s.images * s.tiles(), 2 * tile * tile, sizeof(TileBackward<T>), s,
         w.w7, images.maps, d);
  launch(n == 4 ? cbam_sums<T, 4> : cbam_sums<T, 1>, dim3(pieces, packs), block,
         shared_for<CbamSums<double>>(n), s, w.mean, images.channel, x, d);
  launch(cbam_back_to_layers<T>, s.images, dim3(lanes, warps), 0, s, w, images, x, d);
  launch(cbam_parameters<T>, finish_grid(to_int((sizes.hidden + 1) * sizes.channels + taps)),
         finish_block(), shared_for(2), s, w, images.pooled, training, d, results);
  launch(n == 4 ? cbam_back_to_input<T, 4> : cbam_back_to_input<T, 1>, dim3(strips, packs), block,
         0, s, w, images, x, results.residual, d, results.x);
}

template void cbam_forward(const CbamSizes&, const CbamWeights<float>&, const float*, const float*,
                           const CbamImages<float>&, float*);
template void cbam_forward(const CbamSizes&, const CbamWeights<double>&, const double*,
                           const double*, const CbamImages<double>&, double*);
template void cbam_backward(const CbamSizes&, const CbamWeights<float>&, const CbamImages<float>&,
                            bool, const float*, const float*, const float*,
                            const CbamResults<float>&);
template void cbam_backward(const CbamSizes&, const CbamWeights<double>&, const CbamImages<double>&,
                            bool, const double*, const double*, const double*,
                            const CbamResults<double>&);

}  // namespace chalk::cuda
