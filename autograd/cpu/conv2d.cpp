#include "autograd/cpu/conv2d.h"

#include "autograd/cpu/conv2d_depthwise.h"
#include "autograd/cpu/conv2d_direct.h"
#include "autograd/cpu/conv2d_gemm.h"
#include "autograd/cpu/conv2d_im2col.h"
#include "autograd/cpu/conv2d_winograd.h"

namespace chalk::cpu {
namespace {

Index output_size(const Conv2dSizes& s) {
  return s.batch * s.out_height() * s.out_width() * s.out_channels;
}
Index input_size(const Conv2dSizes& s) {
  return s.batch * s.height * s.width * s.in_channels;
}
bool is_empty(const Conv2dSizes& s) {
  return s.batch == 0 || s.out_height() <= 0 || s.out_width() <= 0 || s.out_channels == 0 ||
         s.in_channels == 0;
}

bool fits_winograd(const Conv2dSizes& s) {
  return s.kernel_height == 3 && s.kernel_width == 3 && s.stride == 1 && s.groups == 1 &&
         s.padding <= 2;
}

// What a rung costs for each pair of an input and an output channel, in multiplications; tiles of
// m x m outputs need `elements` products each. The transforms are shared by all pairs but cost 14
// times as much per number, measured: with few channels they eat up what Winograd saves.
double winograd_cost(const Conv2dSizes& s, Index m, Index elements) {
  const double tiles =
      static_cast<double>(divide_up(s.out_height(), m) * divide_up(s.out_width(), m));
  const double in = static_cast<double>(s.in_channels), out = static_cast<double>(s.out_channels);
  return tiles * static_cast<double>(elements) * (1 + 14 * (in + out) / (in * out));
}

// The table that stands behind `automatic`, and leaves what a rung cannot do to gemm.
ConvRung choose(const Conv2dSizes& s, ConvRung rung) {
  if (rung == ConvRung::direct || rung == ConvRung::im2col) return rung;
  if (!fits_winograd(s)) return ConvRung::gemm;
  if (rung != ConvRung::automatic) return rung;
  const double gemm = static_cast<double>(9 * s.out_height() * s.out_width());
  const double winograd2 = winograd_cost(s, 2, 16), winograd4 = winograd_cost(s, 4, 36);
  if (gemm <= std::min(winograd2, winograd4)) return ConvRung::gemm;
  return winograd2 <= winograd4 ? ConvRung::winograd2 : ConvRung::winograd4;
}

// Whether a rung reads the weight as it is.
bool reads_plain_weight(const Conv2dSizes& s, ConvRung rung) {
  return rung == ConvRung::direct || rung == ConvRung::im2col || is_depthwise(s);
}

template <typename T>
void pack(const Conv2dSizes& s, const T* weight, ConvRung rung, T* to) {
  if (rung == ConvRung::gemm) return pack_forward(s, weight, to);
  if (rung == ConvRung::winograd2) {
    return Winograd<T, 2>::pack(weight, s.in_channels, s.out_channels, to);
  }
  Winograd<T, 4>::pack(weight, s.in_channels, s.out_channels, to);
}

template <typename T>
Index packed_elements(const Conv2dSizes& s, ConvRung rung) {
  if (rung == ConvRung::gemm) return packed_forward_size<T>(s);
  if (rung == ConvRung::winograd2)
    return Winograd<T, 2>::packed_size(s.in_channels, s.out_channels);
  return Winograd<T, 4>::packed_size(s.in_channels, s.out_channels);
}

// Winograd's forward pass with either tile.
template <typename T>
void winograd_forward(const Conv2dSizes& s, ConvRung rung, const T* input, const T* packed,
                      T* output) {
  const auto forward =
      rung == ConvRung::winograd2 ? Winograd<T, 2>::forward : Winograd<T, 4>::forward;
  forward(s.batch, s.height, s.width, s.in_channels, s.padding, s.out_channels, input, packed,
          output);
}

}  // namespace

template <typename T>
PackedWeights<T> pack_weights(const Conv2dSizes& s, const T* weight, ConvRung rung) {
  rung = choose(s, rung);
  if (reads_plain_weight(s, rung)) {
    PackedWeights<T> plain{rung, allocate_memory(weight_size(s) * sizeof(T))};
    std::copy(weight, weight + weight_size(s), reinterpret_cast<T*>(plain.values.get()));
    return plain;
  }
  PackedWeights<T> packed{rung, allocate_memory(packed_elements<T>(s, rung) * sizeof(T))};
  pack(s, weight, rung, reinterpret_cast<T*>(packed.values.get()));
  return packed;
}

template <typename T>
void conv2d_forward(const Conv2dSizes& s, const T* input, const T* weight, T* output, ConvRung rung,
                    const PackedWeights<T>* packed) {
  if (is_empty(s)) {
    if (s.batch > 0 && s.out_height() > 0 && s.out_width() > 0) {
      std::fill(output, output + output_size(s), T(0));
    }
    return;
  }
  rung = packed ? packed->rung : choose(s, rung);
  const T* ready = packed ? reinterpret_cast<const T*>(packed->values.get()) : nullptr;
  if (rung == ConvRung::direct)
    return conv2d_direct_forward(s, input, ready ? ready : weight, output);
  if (rung == ConvRung::im2col) return Im2col<T>(s).forward(input, ready ? ready : weight, output);
  if (is_depthwise(s)) return conv2d_depthwise_forward(s, input, ready ? ready : weight, output);
  if (!packed && is_matmul(s)) {
    return matmul(1, s.batch * s.height * s.width, s.in_channels, s.out_channels, input, 0, false,
                  weight, 0, false, output);
  }
  Scratch scratch;
  if (!ready) {
    T* made = scratch.take<T>(packed_elements<T>(s, rung));
    pack(s, weight, rung, made);
    ready = made;
  }
  if (rung == ConvRung::gemm) return conv2d_gemm_forward(s, input, ready, output);
  winograd_forward(s, rung, input, ready, output);
}

template <typename T>
void conv2d_backward_input(const Conv2dSizes& s, const T* grad_output, const T* weight,
                           T* grad_input, ConvRung rung) {
  if (is_empty(s)) {
    std::fill(grad_input, grad_input + input_size(s), T(0));
    return;
  }
  rung = choose(s, rung);
  if (rung == ConvRung::direct)
    return conv2d_direct_backward_input(s, grad_output, weight, grad_input);
  if (rung == ConvRung::im2col) return Im2col<T>(s).backward_input(grad_output, weight, grad_input);
  if (is_depthwise(s)) return conv2d_depthwise_backward_input(s, grad_output, weight, grad_input);
  if (rung == ConvRung::gemm) return conv2d_gemm_backward_input(s, grad_output, weight, grad_input);
  // The same convolution with the kernel turned around, from out to in channels.
  const Conv2dSizes turned{
      s.batch, s.out_height(), s.out_width(), s.out_channels, 3, 3, s.in_channels,
      1,       2 - s.padding};
  Scratch scratch;
  T* turned_weight = scratch.take<T>(weight_size(s));
  T* packed = scratch.take<T>(packed_elements<T>(turned, rung));
  Winograd<T, 2>::turn(weight, s.in_channels, s.out_channels, turned_weight);
  pack(turned, turned_weight, rung, packed);
  winograd_forward(turned, rung, grad_output, packed, grad_input);
}

template <typename T>
void conv2d_backward_weight(const Conv2dSizes& s, const T* input, const T* grad_output,
                            T* grad_weight, ConvRung rung) {
  if (is_empty(s)) {
    std::fill(grad_weight, grad_weight + weight_size(s), T(0));
    return;
  }
  rung = choose(s, rung);
  if (rung == ConvRung::direct) {
    return conv2d_direct_backward_weight(s, input, grad_output, grad_weight);
  }
  if (rung == ConvRung::im2col) {
    return Im2col<T>(s).backward_weight(input, grad_output, grad_weight);
  }
  if (is_depthwise(s)) return conv2d_depthwise_backward_weight(s, input, grad_output, grad_weight);
  if (rung == ConvRung::gemm) {
    return conv2d_gemm_backward_weight(s, input, grad_output, grad_weight);
  }
  const auto backward = rung == ConvRung::winograd2 ? Winograd<T, 2>::backward_weight
                                                    : Winograd<T, 4>::backward_weight;
  backward(s.batch, s.height, s.width, s.in_channels, s.padding, s.out_channels, input, grad_output,
           grad_weight);
}

template PackedWeights<float> pack_weights(const Conv2dSizes&, const float*, ConvRung);
template PackedWeights<double> pack_weights(const Conv2dSizes&, const double*, ConvRung);
template void conv2d_forward(const Conv2dSizes&, const float*, const float*, float*, ConvRung,
                             const PackedWeights<float>*);
template void conv2d_forward(const Conv2dSizes&, const double*, const double*, double*, ConvRung,
                             const PackedWeights<double>*);
template void conv2d_backward_input(const Conv2dSizes&, const float*, const float*, float*,
                                    ConvRung);
template void conv2d_backward_input(const Conv2dSizes&, const double*, const double*, double*,
                                    ConvRung);
template void conv2d_backward_weight(const Conv2dSizes&, const float*, const float*, float*,
                                     ConvRung);
template void conv2d_backward_weight(const Conv2dSizes&, const double*, const double*, double*,
                                     ConvRung);

}  // namespace chalk::cpu
