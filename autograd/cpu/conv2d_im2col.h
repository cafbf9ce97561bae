// Convolution, second rung: im2col, the way that every course teaches. The pixels under the kernel
// at one output pixel are a patch; gathered as the rows of a matrix they make of a convolution a
// product, which Eigen computes:
//
//   y = P W,  dP = dy W^T,  dW = P^T dy      P [pixels, kernel_height * kernel_width * in],
//                                            W [kernel_height * kernel_width * in, out]
//
// and dx gets from every row of dP what its patch took from x. Each group has a P and a W of its
// own. P repeats every pixel of x for each tap it lies under, so it is made a strip of the image at
// a time.
#pragma once

#include <algorithm>

#include "autograd/cpu/matmul_eigen.h"
#include "autograd/cpu/parallel.h"
#include "autograd/cpu/scratch.h"

namespace chalk::cpu {

// Some rows of the output pixels of image n, for one group.
struct Strip {
  Index n, first, rows, group;
};

template <typename T>
class Im2col {
 public:
  explicit Im2col(const Conv2dSizes& sizes) : s(sizes) {}

  void forward(const T* x, const T* weight, T* y) const {
    Scratch scratch;
    T* patches = scratch.take<T>(num_threads() * patches_size);
    parallel_for(s.batch * strips * s.groups, [&](Index task, int thread) {
      const Strip strip = strip_of(task);
      T* p = patches + thread * patches_size;
      gather(strip, x, p);
      eigen_product(matrix(p, strip), false, weight_of(weight, strip.group), false, false,
                    output_of(y, strip));
    });
  }

  // The strips of an image overlap in dx: one thread does them all.
  void backward_input(const T* dy, const T* weight, T* dx) const {
    const Index image = s.height * s.width * s.in_channels, tasks = strips * s.groups;
    Scratch scratch;
    T* patches = scratch.take<T>(num_threads() * patches_size);
    parallel_for(s.batch, [&](Index n, int thread) {
      std::fill(dx + n * image, dx + (n + 1) * image, T(0));
      T* p = patches + thread * patches_size;
      for (Index task = n * tasks; task < (n + 1) * tasks; ++task) {
        const Strip strip = strip_of(task);
        eigen_product(output_of(dy, strip), false, weight_of(weight, strip.group), true, false,
                      MatrixView<T>{p, strip.rows * s.out_width(), taps, taps});
        scatter(strip, p, dx);
      }
    });
  }

  void backward_weight(const T* x, const T* dy, T* dw) const {
    const Index size = taps * s.out_channels, tasks = s.batch * strips * s.groups;
    const Index pieces = pieces_of_sum(tasks, size * static_cast<Index>(sizeof(T)));
    Scratch scratch;
    T* patches = scratch.take<T>(num_threads() * patches_size);
    T* sums = scratch.take<T>(pieces * size);
    parallel_for(pieces, [&](Index piece, int thread) {
      T* sum = sums + piece * size;
      T* p = patches + thread * patches_size;
      std::fill(sum, sum + size, T(0));
      for (Index task = tasks * piece / pieces; task < tasks * (piece + 1) / pieces; ++task) {
        const Strip strip = strip_of(task);
        gather(strip, x, p);
        eigen_product(matrix(p, strip), true, output_of(dy, strip), false, true,
                      weight_of(sum, strip.group));
      }
    });
    add_pieces(pieces, size, sums);
    std::copy(sums, sums + size, dw);
  }

 private:
  // About 1 MiB of patches a strip.
  Index choose_rows() const {
    const Index bytes = s.out_width() * taps * static_cast<Index>(sizeof(T));
    return std::clamp<Index>((1 << 20) / bytes, 1, s.out_height());
  }

  Strip strip_of(Index task) const {
    const Index first = task / s.groups % strips * rows;
    return {task / s.groups / strips, first, std::min(rows, s.out_height() - first),
            task % s.groups};
  }

  // Calls visit(place in the patches, place in x) for every tap of the strip's patches: each is
  // `in` numbers long. Where it lies in the padding, the place in x is -1.
  template <typename Visit>
  void for_each_tap(const Strip& strip, const Visit& visit) const {
    Index place = 0;
    for (Index h = strip.first; h < strip.first + strip.rows; ++h) {
      for (Index w = 0; w < s.out_width(); ++w) {
        for (Index i = 0; i < s.kernel_height; ++i) {
          for (Index j = 0; j < s.kernel_width; ++j, place += in) {
            const Index y = h * s.stride + i - s.padding, x = w * s.stride + j - s.padding;
            const bool inside = y >= 0 && y < s.height && x >= 0 && x < s.width;
            const Index pixel = (strip.n * s.height + y) * s.width + x;
            visit(place, inside ? pixel * s.in_channels + strip.group * in : -1);
          }
        }
      }
    }
  }

  void gather(const Strip& strip, const T* x, T* patches) const {
    for_each_tap(strip, [&](Index to, Index from) {
      if (from < 0)
        std::fill(patches + to, patches + to + in, T(0));
      else
        std::copy(x + from, x + from + in, patches + to);
    });
  }

  void scatter(const Strip& strip, const T* patches, T* dx) const {
    for_each_tap(strip, [&](Index from, Index to) {
      for (Index c = 0; to >= 0 && c < in; ++c)
        dx[to + c] += patches[from + c];
    });
  }

  // The matrices of one strip and one group; U is T or const T.
  MatrixView<const T> matrix(const T* patches, const Strip& strip) const {
    return {patches, strip.rows * s.out_width(), taps, taps};
  }
  template <typename U>
  MatrixView<U> weight_of(U* weight, Index group) const {
    return {weight + group * out, taps, out, s.out_channels};
  }
  template <typename U>
  MatrixView<U> output_of(U* y, const Strip& strip) const {
    const Index first = (strip.n * s.out_height() + strip.first) * s.out_width();
    return {y + first * s.out_channels + strip.group * out, strip.rows * s.out_width(), out,
            s.out_channels};
  }

  const Conv2dSizes& s;
  const Index in = s.in_channels / s.groups, out = s.out_channels / s.groups;
  const Index taps = s.kernel_height * s.kernel_width * in;  // numbers in a patch
  const Index rows = choose_rows(), strips = (s.out_height() + rows - 1) / rows;
  const Index patches_size = rows * s.out_width() * taps;
};

}  // namespace chalk::cpu
