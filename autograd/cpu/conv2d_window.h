// What the rungs of the convolution share: views of images, and their padding.
#pragma once

#include <algorithm>

#include "autograd/shape.h"

namespace chalk::cpu {

// A view of some channels of a batch of images: pixel (n, y, x) is at
// data + n * image + y * row + x * pixel, its channels one after the other.
template <typename T>
struct Image {
  T* data;
  Index height, width, channels;
  Index image, row, pixel;

  T* at(Index n, Index y, Index x) const { return data + n * image + y * row + x * pixel; }
};

// The channels of one group of data [batch, height, width, channels].
template <typename T>
Image<T> group_of(T* data, Index height, Index width, Index channels, Index groups, Index group) {
  const Index each = channels / groups;
  return {data + group * each,       height,           width,   each,
          height * width * channels, width * channels, channels};
}

// A rectangle of pixels that may lie partly outside of the image, where it is 0.
template <typename T>
struct Window {
  Image<const T> image;
  Index top, left, rows, columns;

  // Whether it is not already in memory as rows of whole pixels.
  bool needs_copy() const {
    return top < 0 || left < 0 || top + rows > image.height || left + columns > image.width ||
           image.channels != image.pixel;
  }

  // Writes one row of image n, zeros outside: to [columns, channels].
  void copy_row(Index n, Index row, T* to) const {
    const Index y = top + row, channels = image.channels;
    const Index begin = std::clamp<Index>(-left, 0, columns);
    const bool inside = y >= 0 && y < image.height;
    const Index end = inside ? std::clamp(image.width - left, begin, columns) : begin;
    std::fill(to, to + begin * channels, T(0));
    std::fill(to + end * channels, to + columns * channels, T(0));
    if (begin == end) return;
    const T* from = image.at(n, y, left + begin);
    if (channels == image.pixel) {
      std::copy(from, from + (end - begin) * channels, to + begin * channels);
      return;
    }
    for (Index x = begin; x < end; ++x, from += image.pixel) {
      std::copy(from, from + channels, to + x * channels);
    }
  }
};

}  // namespace chalk::cpu
