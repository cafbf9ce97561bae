// The end of a residual block in two passes over memory instead of about twenty:
//
//   y = relu(CBAM(batch norm(x)) + residual)        (CBAM: arXiv 1807.06521)
//
// An image at a time, so that the passes over one image find it in the cache. x, residual and y
// are [N, P, C] with P = H W pixels; everything between them is small and kept in CbamState:
//
//   d = x - mean                    u = d scale + beta          scale = gamma inverse_std
//   average_c = mean over p of u    highest_c = max over p of u
//   s_c = w2^T (relu(w1^T average) + relu(w1^T highest))        w1 [C, R], w2 [R, C]
//   a_c = sigmoid(s_c)              v = u a                     a weight per channel
//   m_p = mean over c of v          h_p = max over c of v
//   t = convolution of (m, h) with w7 [7, 7, 2], padding 3
//   b_p = sigmoid(t_p)              y = relu(v b + residual)    a weight per pixel
#pragma once

#include "autograd/cpu/batch_norm.h"

namespace chalk::cpu {

// What the forward pass leaves for the backward pass. Of every pointer image n has its own part.
template <typename T>
struct CbamImages {
  T* pooled;              // [N, 2, C]: average, highest
  std::int64_t* pixel;    // [N, C]: where highest was found
  T* channel_weight;      // [N, C]: a
  T* maps;                // [N, 2, P]: m, h
  std::int64_t* channel;  // [N, P]: where h was found
  T* pixel_weight;        // [N, P]: b

  CbamImages of(const CbamSizes& s, Index n) const {
    return {pooled + n * 2 * s.channels, pixel + n * s.channels,   channel_weight + n * s.channels,
            maps + n * 2 * s.pixels(),   channel + n * s.pixels(), pixel_weight + n * s.pixels()};
  }
};

template <typename T>
struct CbamWeights {
  const T *mean, *scale, *beta;  // [C]
  const T *w1, *w2, *w7;         // [C, R], [R, C], [7, 7, 2]

  T batch_norm(const T* row, Index c) const {
    return normalised(row[c], mean[c], scale[c], beta[c]);
  }
};

// The results, shaped like what they are gradients of.
template <typename T>
struct CbamResults {
  T *x, *residual, *gamma, *beta, *w1, *w2, *w7;
};

template <typename T>
void cbam_forward(const CbamSizes& s, const CbamWeights<T>& w, const T* x, const T* residual,
                  const CbamImages<T>& images, T* y);

// training: the statistics are the batch's; else they are constants.
template <typename T>
void cbam_backward(const CbamSizes& s, const CbamWeights<T>& w, const CbamImages<T>& images,
                   const T* inverse_std, bool training, const T* x, const T* y, const T* dy,
                   const CbamResults<T>& d);

}  // namespace chalk::cpu
