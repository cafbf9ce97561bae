#include "autograd/cpu/fused_cbam.h"

#include <vector>

namespace chalk::cpu {

// ---- forward, one image ----

// average, highest and its pixel, of u [P, C].
template <typename T>
void pool_pixels(const CbamSizes& s, const CbamWeights<T>& w, const T* x, const CbamImages<T>& im) {
  for_each_tile(s.channels, [&](Index first, auto width) {
    double sum[tile_width] = {};
    T highest[tile_width];
    IntegerLike<T> found[tile_width] = {};
    for (Index c = 0; c < width; ++c)
      highest[c] = w.batch_norm(x, first + c);
    for (Index p = 0; p < s.pixels(); ++p) {
      const T* row = x + p * s.channels;
#pragma omp simd
      for (Index c = 0; c < width; ++c) {
        const T u = w.batch_norm(row, first + c);
        const bool higher = u > highest[c];
        sum[c] += static_cast<double>(u);
        highest[c] = higher ? u : highest[c];
        found[c] = higher ? static_cast<IntegerLike<T>>(p) : found[c];
      }
    }
    for (Index c = 0; c < width; ++c)
      im.pooled[first + c] = static_cast<T>(sum[c] / static_cast<double>(s.pixels()));
    std::copy(highest, highest + width, im.pooled + s.channels + first);
    std::copy(found, found + width, im.pixel + first);
  });
}

// hidden [2, R] = relu(w1^T average), relu(w1^T highest)
template <typename T>
void hidden_layer(const CbamSizes& s, const CbamWeights<T>& w, const T* pooled, T* hidden) {
  std::fill(hidden, hidden + 2 * s.hidden, T(0));
  for (Index i = 0; i < 2; ++i) {
    T* h = hidden + i * s.hidden;
    for (Index c = 0; c < s.channels; ++c)
      for (Index r = 0; r < s.hidden; ++r)
        h[r] += w.w1[c * s.hidden + r] * pooled[i * s.channels + c];
    for (Index r = 0; r < s.hidden; ++r)
      h[r] = h[r] <= 0 ? 0 : h[r];
  }
}

// a = sigmoid(w2^T (hidden of average + hidden of highest))
template <typename T>
void channel_weights(const CbamSizes& s, const CbamWeights<T>& w, const CbamImages<T>& im) {
  std::vector<T> hidden(static_cast<std::size_t>(2 * s.hidden));
  hidden_layer(s, w, im.pooled, hidden.data());
  T* a = im.channel_weight;
  std::fill(a, a + s.channels, T(0));
  for (Index r = 0; r < s.hidden; ++r) {
    const T both =
        hidden[static_cast<std::size_t>(r)] + hidden[static_cast<std::size_t>(s.hidden + r)];
    for (Index c = 0; c < s.channels; ++c)
      a[c] += w.w2[r * s.channels + c] * both;
  }
  for (Index c = 0; c < s.channels; ++c)
    a[c] = logistic(a[c]);
}

// m, h and its channel, of v [P, C].
template <typename T>
void pool_channels(const CbamSizes& s, const CbamWeights<T>& w, const T* x,
                   const CbamImages<T>& im) {
  const T* a = im.channel_weight;
  std::vector<T> row_of_v(static_cast<std::size_t>(s.channels));
  T* v = row_of_v.data();
  for (Index p = 0; p < s.pixels(); ++p) {
    const T* row = x + p * s.channels;
#pragma omp simd
    for (Index c = 0; c < s.channels; ++c)
      v[c] = w.batch_norm(row, c) * a[c];
    im.maps[p] = static_cast<T>(sum_of(s.channels, v) / static_cast<double>(s.channels));
    im.maps[s.pixels() + p] = max_of(s.channels, v, im.channel[p]);
  }
}

// A plane [H, W] in the middle of zeros [H + 6, W + 6], so that a 7x7 window fits everywhere. Seen
// as one long row, element q + i (W + 6) + j is the one at (i, j) of the window that begins at q;
// so a correlation needs no loop over rows if what comes out right of the plane is ignored. (The
// window at the very end reaches 6 elements further.)
template <typename T>
std::vector<T> with_margin(const CbamSizes& s, const T* plane) {
  const Index width = s.width + 6;
  std::vector<T> padded(static_cast<std::size_t>((s.height + 6) * width + 6), T(0));
  for (Index h = 0; h < s.height; ++h)
    std::copy(plane + h * s.width, plane + (h + 1) * s.width, padded.begin() + (h + 3) * width + 3);
  return padded;
}

// out [H, W] += padded [H + 6, W + 6] correlated with weight(i, j), i, j < 7.
template <typename T, typename Weight>
void correlate7(const CbamSizes& s, const std::vector<T>& padded, const Weight& weight, T* out) {
  const Index row = s.width + 6;
  std::vector<T> result(static_cast<std::size_t>(s.height * row));
  for_each_tile(s.height * row, [&](Index first, auto width) {
    T sum[tile_width] = {};
    for (Index i = 0; i < 7; ++i) {
      for (Index j = 0; j < 7; ++j) {
        const T* from = padded.data() + first + i * row + j;
        const T factor = weight(i, j);
#pragma omp simd
        for (Index q = 0; q < width; ++q)
          sum[q] += factor * from[q];
      }
    }
    std::copy(sum, sum + width, result.data() + first);
  });
  for (Index h = 0; h < s.height; ++h)
    for (Index column = 0; column < s.width; ++column)
      out[h * s.width + column] += result[static_cast<std::size_t>(h * row + column)];
}

// b = sigmoid(convolution of m and h)
template <typename T>
void pixel_weights(const CbamSizes& s, const CbamWeights<T>& w, const CbamImages<T>& im) {
  T* b = im.pixel_weight;
  std::fill(b, b + s.pixels(), T(0));
  for (Index k = 0; k < 2; ++k)
    correlate7(
        s, with_margin(s, im.maps + k * s.pixels()),
        [&](Index i, Index j) { return w.w7[(i * 7 + j) * 2 + k]; }, b);
#pragma omp simd
  for (Index p = 0; p < s.pixels(); ++p)
    b[p] = logistic(b[p]);
}

template <typename T>
void cbam_forward(const CbamSizes& s, const CbamWeights<T>& w, const T* x, const T* residual,
                  const CbamImages<T>& images, T* y) {
  parallel_for(s.batch, [&](Index n) {
    const Index offset = n * s.pixels() * s.channels;
    const CbamImages<T> im = images.of(s, n);
    pool_pixels(s, w, x + offset, im);
    channel_weights(s, w, im);
    pool_channels(s, w, x + offset, im);
    pixel_weights(s, w, im);
    for (Index p = 0; p < s.pixels(); ++p) {
      const Index at = offset + p * s.channels;
      const T b = im.pixel_weight[p];
#pragma omp simd
      for (Index c = 0; c < s.channels; ++c) {
        const T value = w.batch_norm(x + at, c) * im.channel_weight[c] * b + residual[at + c];
        y[at + c] = zero_if(value <= 0, value);
      }
    }
  });
}

// ---- backward ----
//
// With g = dy where y > 0, else 0, the chain rule goes back through the formulas at the top:
//   dresidual = g
//   db_p = sum over c of g v           dt = db b (1 - b)
//   dw7 = correlation of (m, h) with dt;  (dm, dh) = dt convolved with w7 turned round
//   dv = g b + dm / C + (dh where h was found)
//   da_c = sum over p of dv u          ds = da a (1 - a)
//   dw2 = (hidden sums) ds^T, and back through the shared layer to daverage, dhighest and dw1
//   du = dv a + daverage / P + (dhighest where highest was found)
// and du is what batch norm's backward pass (norm.cpp) begins with. Its sums over all images,
// sum(du) and sum(du d), follow from sums of dv, dv d and d over each image's pixels, which the
// first pass collects; so a second pass can write dx without du ever being in memory.

// What the first pass leaves for the second: for image n, like CbamImages.
template <typename T>
struct CbamGradients {
  T* maps;                    // [N, 2, P]: dm, dh
  T* pooled;                  // [N, 2, C]: daverage, dhighest
  T *w1, *w2, *w7;            // [N, ...]: each image's part of the weights' gradients
  double *sum_du, *sum_du_d;  // [N, C]

  CbamGradients of(const CbamSizes& s, Index n) const {
    return {maps + n * 2 * s.pixels(),
            pooled + n * 2 * s.channels,
            w1 + n * s.channels * s.hidden,
            w2 + n * s.channels * s.hidden,
            w7 + n * 98,
            sum_du + n * s.channels,
            sum_du_d + n * s.channels};
  }
};

// dresidual = g; dt [P] from db.
template <typename T>
void back_to_pixel_weights(const CbamSizes& s, const CbamWeights<T>& w, const CbamImages<T>& im,
                           const T* x, const T* y, const T* dy, T* dresidual, T* dt) {
  for (Index p = 0; p < s.pixels(); ++p) {
    const Index at = p * s.channels;
#pragma omp simd
    for (Index c = 0; c < s.channels; ++c)
      dresidual[at + c] = zero_if(y[at + c] <= 0, dy[at + c]);
    const double db = sum_of_terms<T>(s.channels, [=](Index c) {
      return dresidual[at + c] * w.batch_norm(x + at, c) * im.channel_weight[c];
    });
    const T b = im.pixel_weight[p];
    dt[p] = static_cast<T>(db) * b * (1 - b);
  }
}

// dw7, dm and dh from dt.
template <typename T>
void back_through_convolution(const CbamSizes& s, const CbamWeights<T>& w, const CbamImages<T>& im,
                              const T* dt, const CbamGradients<T>& out) {
  const std::vector<T> padded_dt = with_margin(s, dt);
  const Index row = s.width + 6;
  std::fill(out.maps, out.maps + 2 * s.pixels(), T(0));
  for (Index k = 0; k < 2; ++k) {
    correlate7(
        s, padded_dt, [&](Index i, Index j) { return w.w7[((6 - i) * 7 + 6 - j) * 2 + k]; },
        out.maps + k * s.pixels());
    const std::vector<T> map = with_margin(s, im.maps + k * s.pixels());
    for (Index i = 0; i < 7; ++i) {
      for (Index j = 0; j < 7; ++j) {
        const T *from = map.data() + i * row + j, *gradient = padded_dt.data() + 3 * row + 3;
        const double sum =
            sum_of_terms<T>(s.height * row - 6, [=](Index q) { return from[q] * gradient[q]; });
        out.w7[(i * 7 + j) * 2 + k] = static_cast<T>(sum);
      }
    }
  }
}

// Sums over the pixels of an image, [C] each.
struct CbamSums {
  explicit CbamSums(Index channels)
      : dv(static_cast<std::size_t>(channels), 0.0), dv_d(dv), d(dv) {}
  std::vector<double> dv, dv_d, d;
};

template <typename T>
CbamSums sum_over_pixels(const CbamSizes& s, const CbamWeights<T>& w, const CbamImages<T>& im,
                         const T* x, const T* g, const T* dmaps) {
  CbamSums sums(s.channels);
  for_each_tile(s.channels, [&](Index first, auto width) {
    double dv_sum[tile_width] = {}, dv_d_sum[tile_width] = {}, d_sum[tile_width] = {};
    const T* mean = w.mean + first;
    for (Index p = 0; p < s.pixels(); ++p) {
      const T *row = x + p * s.channels + first, *gradient = g + p * s.channels + first;
      const T b = im.pixel_weight[p], dm = dmaps[p] / static_cast<T>(s.channels);
#pragma omp simd
      for (Index c = 0; c < width; ++c) {
        const T d = row[c] - mean[c], dv = gradient[c] * b + dm;
        dv_sum[c] += static_cast<double>(dv);
        dv_d_sum[c] += static_cast<double>(dv * d);
        d_sum[c] += static_cast<double>(d);
      }
    }
    std::copy(dv_sum, dv_sum + width, sums.dv.begin() + first);
    std::copy(dv_d_sum, dv_d_sum + width, sums.dv_d.begin() + first);
    std::copy(d_sum, d_sum + width, sums.d.begin() + first);
  });
  for (Index p = 0; p < s.pixels(); ++p) {  // dh, at the channel where h was found
    const Index c = im.channel[p];
    const double dh = static_cast<double>(dmaps[s.pixels() + p]);
    sums.dv[static_cast<std::size_t>(c)] += dh;
    sums.dv_d[static_cast<std::size_t>(c)] +=
        dh * static_cast<double>(x[p * s.channels + c] - w.mean[c]);
  }
  return sums;
}

// dw2, dw1, daverage and dhighest from ds [C].
template <typename T>
void back_through_layers(const CbamSizes& s, const CbamWeights<T>& w, const CbamImages<T>& im,
                         const T* ds, const CbamGradients<T>& out) {
  const Index channels = s.channels, hidden = s.hidden;
  std::vector<T> hidden_values(static_cast<std::size_t>(2 * hidden));
  T* h = hidden_values.data();
  hidden_layer(s, w, im.pooled, h);
  std::fill(out.w1, out.w1 + channels * hidden, T(0));
  std::fill(out.pooled, out.pooled + 2 * channels, T(0));
  for (Index r = 0; r < hidden; ++r) {
    T dh = 0;
    for (Index c = 0; c < channels; ++c) {
      dh += w.w2[r * channels + c] * ds[c];
      out.w2[r * channels + c] = (h[r] + h[hidden + r]) * ds[c];
    }
    for (Index i = 0; i < 2; ++i) {
      if (h[i * hidden + r] <= 0) continue;
      for (Index c = 0; c < channels; ++c) {
        out.pooled[i * channels + c] += w.w1[c * hidden + r] * dh;
        out.w1[c * hidden + r] += im.pooled[i * channels + c] * dh;
      }
    }
  }
}

// The first pass over one image: everything but dx.
template <typename T>
void cbam_backward_image(const CbamSizes& s, const CbamWeights<T>& w, const CbamImages<T>& im,
                         const T* x, const T* y, const T* dy, T* dresidual,
                         const CbamGradients<T>& out) {
  std::vector<T> dt(static_cast<std::size_t>(s.pixels())), ds(static_cast<std::size_t>(s.channels));
  back_to_pixel_weights(s, w, im, x, y, dy, dresidual, dt.data());
  back_through_convolution(s, w, im, dt.data(), out);
  const CbamSums sums = sum_over_pixels(s, w, im, x, dresidual, out.maps);
  for (std::size_t c = 0; c < ds.size(); ++c) {
    const double a =
        static_cast<double>(im.channel_weight[c]);  // da = sum(dv u), u = d scale + beta
    const double da = sums.dv_d[c] * static_cast<double>(w.scale[c]) +
                      sums.dv[c] * static_cast<double>(w.beta[c]);
    ds[c] = static_cast<T>(da * a * (1 - a));
  }
  back_through_layers(s, w, im, ds.data(), out);
  for (std::size_t c = 0; c < ds.size(); ++c) {
    const double a = static_cast<double>(im.channel_weight[c]);
    const double daverage = static_cast<double>(out.pooled[c]);
    const double dhighest = static_cast<double>(out.pooled[ds.size() + c]);
    const Index highest = im.pixel[c] * s.channels + static_cast<Index>(c);
    out.sum_du[c] = a * sums.dv[c] + daverage + dhighest;
    out.sum_du_d[c] = a * sums.dv_d[c] + daverage * sums.d[c] / static_cast<double>(s.pixels()) +
                      dhighest * static_cast<double>(x[highest] - w.mean[c]);
  }
}

// The second pass over one image: dx = scale du - along d - constant, as in batch_norm_backward.
template <typename T>
void cbam_backward_input(const CbamSizes& s, const CbamWeights<T>& w, const CbamImages<T>& im,
                         const CbamGradients<T>& gradients, const T* along, const T* constant,
                         const T* x, const T* g, T* dx) {
  const Index channels = s.channels;
  std::vector<T> factors(static_cast<std::size_t>(channels)), shifts(factors);
  T *factor = factors.data(), *shift = shifts.data();  // dx = dv factor + shift - along d
  for (Index c = 0; c < channels; ++c) {
    factor[c] = w.scale[c] * im.channel_weight[c];
    shift[c] = w.scale[c] * gradients.pooled[c] / static_cast<T>(s.pixels()) - constant[c];
  }
  for (Index p = 0; p < s.pixels(); ++p) {
    const Index at = p * channels;
    const T b = im.pixel_weight[p], dm = gradients.maps[p] / static_cast<T>(channels);
#pragma omp simd
    for (Index c = 0; c < channels; ++c)
      dx[at + c] = (g[at + c] * b + dm) * factor[c] + shift[c] - along[c] * (x[at + c] - w.mean[c]);
    dx[at + im.channel[p]] += gradients.maps[s.pixels() + p] * factor[im.channel[p]];
  }
  for (Index c = 0; c < channels; ++c)
    dx[im.pixel[c] * channels + c] += w.scale[c] * gradients.pooled[channels + c];
}

// to [count] = sum over images of from [N, count], in order.
template <typename T, typename From>
void sum_over_images(Index images, Index count, const From* from, T* to) {
  for_each_element(count, [=](Index i) {
    double sum = 0;
    for (Index n = 0; n < images; ++n)
      sum += static_cast<double>(from[n * count + i]);
    to[i] = static_cast<T>(sum);
  });
}

template <typename T>
void cbam_backward(const CbamSizes& s, const CbamWeights<T>& w, const CbamImages<T>& images,
                   const T* inverse_std, bool training, const T* x, const T* y, const T* dy,
                   const CbamResults<T>& d) {
  const Index channels = s.channels, both = channels * s.hidden, pixels = s.pixels();
  Scratch scratch;
  const CbamGradients<T> all{
      scratch.take<T>(s.batch * 2 * pixels),   scratch.take<T>(s.batch * 2 * channels),
      scratch.take<T>(s.batch * both),         scratch.take<T>(s.batch * both),
      scratch.take<T>(s.batch * 98),           scratch.take<double>(s.batch * channels),
      scratch.take<double>(s.batch * channels)};
  T *along = scratch.take<T>(channels), *constant = scratch.take<T>(channels);
  parallel_for(s.batch, [&](Index n) {
    const Index at = n * pixels * channels;
    cbam_backward_image(s, w, images.of(s, n), x + at, y + at, dy + at, d.residual + at,
                        all.of(s, n));
  });
  sum_over_images(s.batch, both, all.w1, d.w1);
  sum_over_images(s.batch, both, all.w2, d.w2);
  sum_over_images(s.batch, Index{98}, all.w7, d.w7);
  sum_over_images(s.batch, channels, all.sum_du, d.beta);
  sum_over_images(s.batch, channels, all.sum_du_d, d.gamma);
  const T rows = static_cast<T>(s.batch * pixels);
  for (Index c = 0; c < channels; ++c) {
    d.gamma[c] *= inverse_std[c];
    constant[c] = training ? w.scale[c] * d.beta[c] / rows : 0;
    along[c] = training ? w.scale[c] * inverse_std[c] * d.gamma[c] / rows : 0;
  }
  parallel_for(s.batch, [&](Index n) {
    const Index at = n * pixels * channels;
    cbam_backward_input(s, w, images.of(s, n), all.of(s, n), along, constant, x + at,
                        d.residual + at, d.x + at);
  });
}

template void cbam_forward(const CbamSizes&, const CbamWeights<float>&, const float*, const float*,
                           const CbamImages<float>&, float*);
template void cbam_forward(const CbamSizes&, const CbamWeights<double>&, const double*,
                           const double*, const CbamImages<double>&, double*);
template void cbam_backward(const CbamSizes&, const CbamWeights<float>&, const CbamImages<float>&,
                            const float*, bool, const float*, const float*, const float*,
                            const CbamResults<float>&);
template void cbam_backward(const CbamSizes&, const CbamWeights<double>&, const CbamImages<double>&,
                            const double*, bool, const double*, const double*, const double*,
                            const CbamResults<double>&);

}  // namespace chalk::cpu
