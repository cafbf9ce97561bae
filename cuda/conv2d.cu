#include <type_traits>

#include "cuda/conv2d.h"
#include "cuda/conv2d_depthwise.cuh"
#include "cuda/conv2d_direct.cuh"
#include "cuda/conv2d_im2col.cuh"
#include "cuda/conv2d_narrow.cuh"
#include "cuda/conv2d_patch.cuh"
#include "cuda/conv2d_ring.cuh"
#include "cuda/conv2d_tensor.cuh"
#include "cuda/conv2d_tiled.cuh"
#include "cuda/ladders.h"

namespace chalk::cuda {
namespace {

bool is_empty(const Conv2dSizes& s) {
  return s.batch == 0 || s.out_height() <= 0 || s.out_width() <= 0 || s.out_channels == 0 ||
         s.in_channels == 0;
}

// What the rung of the moment comes to for a shape and a type; never automatic. patch stands for
// the special kernels, each of which says itself what it fits, and for tensor where none does.
template <typename T>
ConvRung choose(const Conv2dSizes& s) {
  const ConvRung rung = conv_rung();
  const bool special = rung == ConvRung::automatic || rung == ConvRung::patch;
  if (is_empty(s) || rung == ConvRung::direct) return ConvRung::direct;
  if (special && is_depthwise(s)) return ConvRung::patch;
  constexpr Index largest_stride = 255;  // a grid has up to 65,535 phases
  if (s.groups > 1 || s.stride > largest_stride) return ConvRung::direct;
  if (rung == ConvRung::im2col) return ConvRung::im2col;
  const bool tf32 = std::is_same_v<T, float> && tf32_in_convolutions();
  if (rung == ConvRung::tiled || !tf32) return ConvRung::tiled;
  return special ? ConvRung::patch : ConvRung::tensor;
}

}  // namespace

template <typename T>
void conv2d_forward(const Conv2dSizes& s, const T* x, const T* weight, T* y) {
  const ConvRung rung = choose<T>(s);
  if (rung == ConvRung::direct) return conv2d_direct_forward(s, x, weight, y);
  if (rung == ConvRung::im2col) return Im2col(s).forward(x, weight, y);
  if (rung == ConvRung::patch && is_depthwise(s)) {
    return conv2d_depthwise_forward(s, x, weight, y);
  }
  if constexpr (std::is_same_v<T, float>) {
    if (rung == ConvRung::patch && patch_fits(s)) return conv2d_patch_forward(s, x, weight, y);
    if (rung == ConvRung::patch && narrow_fits(s)) return conv2d_narrow_forward(s, x, weight, y);
    if (rung != ConvRung::tiled) return conv2d_tensor_forward(s, x, weight, y);
  }
  conv2d_tiled_forward(s, x, weight, y);
}

template <typename T>
void conv2d_backward_input(const Conv2dSizes& s, const T* dy, const T* weight, T* dx) {
  const ConvRung rung = choose<T>(s);
  if (rung == ConvRung::direct) return conv2d_direct_backward_input(s, dy, weight, dx);
  if (rung == ConvRung::im2col) return Im2col(s).backward_input(dy, weight, dx);
  if (rung == ConvRung::patch && is_depthwise(s)) {
    return conv2d_depthwise_backward_input(s, dy, weight, dx);
  }
  if constexpr (std::is_same_v<T, float>) {
    if (rung == ConvRung::patch && patch_fits(s))
      return conv2d_patch_backward_input(s, dy, weight, dx);
    if (rung != ConvRung::tiled) return conv2d_tensor_backward_input(s, dy, weight, dx);
  }
  conv2d_tiled_backward_input(s, dy, weight, dx);
}

template <typename T>
void conv2d_backward_weight(const Conv2dSizes& s, const T* x, const T* dy, T* dweight) {
  const ConvRung rung = choose<T>(s);
  if (rung == ConvRung::direct) return conv2d_direct_backward_weight(s, x, dy, dweight);
  if (rung == ConvRung::im2col) return Im2col(s).backward_weight(x, dy, dweight);
  if (rung == ConvRung::patch && is_depthwise(s)) {
    return conv2d_depthwise_backward_weight(s, x, dy, dweight);
  }
  if constexpr (std::is_same_v<T, float>) {
    if (rung == ConvRung::patch && ring_fits(s))
      return conv2d_ring_backward_weight(s, x, dy, dweight);
    if (rung == ConvRung::patch && narrow_fits(s))
      return conv2d_narrow_backward_weight(s, x, dy, dweight);
    if (rung != ConvRung::tiled) return conv2d_tensor_backward_weight(s, x, dy, dweight);
  }
  conv2d_tiled_backward_weight(s, x, dy, dweight);
}

template void conv2d_forward(const Conv2dSizes&, const float*, const float*, float*);
template void conv2d_forward(const Conv2dSizes&, const double*, const double*, double*);
template void conv2d_backward_input(const Conv2dSizes&, const float*, const float*, float*);
template void conv2d_backward_input(const Conv2dSizes&, const double*, const double*, double*);
template void conv2d_backward_weight(const Conv2dSizes&, const float*, const float*, float*);
template void conv2d_backward_weight(const Conv2dSizes&, const double*, const double*, double*);

}  // namespace chalk::cuda
