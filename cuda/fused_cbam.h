// The end of a residual block, y = relu(CBAM(batch norm(x)) + residual): autograd/cpu/fused_cbam.h
// has the formulas and the names. Between the kernels lies only what is small.
//
//   forward       maps read, written   what it leaves
//   cbam_pool             1, 0         average and highest of each piece of an image
//   cbam_channel_weights  0, 0         those of the image; a
//   cbam_maps             1, 0         m, h
//   cbam_output           2, 1         b, y
//
//   backward
//   cbam_back_to_pixels   3, 1         g, dt; sums of g b and g b d
//   cbam_back_to_maps     0, 0         dm, dh; dw7 of each tile of an image
//   cbam_sums             1, 0         sums of dv and dv d
//   cbam_back_to_layers   0, 0         daverage, dhighest; an image's part of all that is summed up
//   cbam_parameters       0, 0         the parameters' gradients
//   cbam_back_to_input    2, 1         dx
//
// So 4 launches and 5 times the bytes of x forward, 6 and 8 times backward. What is small comes to
// that: for float32 and 64 channels about a fifth of the bytes of x forward and half of them
// backward, for more channels less, and a GPU's cache holds most of it from kernel to kernel.
#pragma once

#include <cstdint>

#include "autograd/shape.h"

namespace chalk::cuda {

// What the forward pass leaves for the backward pass. Of every pointer image n has its own part.
template <typename T>
struct CbamImages {
  T* pooled;              // [N, 2, C]: average, highest
  std::int64_t* pixel;    // [N, C]: where highest was found
  T* channel_weight;      // [N, C]: a
  T* maps;                // [N, 2, P]: m, h
  std::int64_t* channel;  // [N, P]: where h was found
  T* pixel_weight;        // [N, P]: b
};

template <typename T>
struct CbamWeights {
  const T *mean, *inverse_std, *gamma, *beta;  // [C]
  const T *w1, *w2, *w7;                       // [C, R], [R, C], [7, 7, 2]
};

// The results, shaped like what they are gradients of.
template <typename T>
struct CbamResults {
  T *x, *residual, *gamma, *beta, *w1, *w2, *w7;
};

// All pointers are the device's; a map has at least one pixel and one channel.
template <typename T>
void cbam_forward(const CbamSizes& sizes, const CbamWeights<T>& w, const T* x, const T* residual,
                  const CbamImages<T>& images, T* y);

// training: the statistics are the batch's; else they are constants.
template <typename T>
void cbam_backward(const CbamSizes& sizes, const CbamWeights<T>& w, const CbamImages<T>& images,
                   bool training, const T* x, const T* y, const T* dy, const CbamResults<T>& d);

}  // namespace chalk::cuda
