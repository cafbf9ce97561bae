// What augment() does to one pixel, for the CPU and for GPUs.
//
// The arithmetic is written once, here, and compiled for both. Neither compiler may fuse a product
// and a sum into one operation, since Pillow rounds both: CMakeLists.txt says so for the files that
// include this one. Then both give the same bytes.
#pragma once

#include <algorithm>

#include "autograd/shape.h"

namespace chalk {

struct Pixel {
  int red, green, blue;  // 0 to 255
};

// The luma of ITU-R 601-2, 0.299 R + 0.587 G + 0.114 B, in 16.16 fixed point.
constexpr int grey(const Pixel& p) {
  return (p.red * 19595 + p.green * 38470 + p.blue * 7471 + 0x8000) >> 16;
}

// From `base` towards `value` and, for a factor over 1, beyond; the fraction is cut off.
constexpr int blend(int base, int value, float factor) {
  const float blended = static_cast<float>(base) + factor * static_cast<float>(value - base);
  return static_cast<int>(std::clamp(blended, 0.0f, 255.0f));
}

constexpr Pixel blend(int base, const Pixel& p, float factor) {
  return {blend(base, p.red, factor), blend(base, p.green, factor), blend(base, p.blue, factor)};
}

// What contrast blends with: the mean grey, from the sum of all pixels' greys.
constexpr int mean_grey(double sum, Index pixel_count) {
  return static_cast<int>(sum / static_cast<double>(pixel_count) + 0.5);
}

// A part of a whole turn of the colour circle, in the steps of a hue that is a byte.
constexpr int hue_shift(double turn) {
  return static_cast<int>(turn * 255);
}

// RGB -> HSV, hue + shift (modulo 256), HSV -> RGB. Hue, saturation and value are bytes. Free of
// branches, so that a CPU turns 16 pixels at a time.
constexpr Pixel turn_hue(const Pixel& p, int shift) {
  const int r = p.red, g = p.green, b = p.blue;
  const int value = std::max(r, std::max(g, b)), least = std::min(r, std::min(g, b));
  const int middle = r + g + b - value - least, range = value - least;
  // The hue, in sixths of the circle: red 0, green 2, blue 4, less or more by the other two.
  const int sixth = r == value ? 0 : g == value ? 2 : 4;
  const int lean = r == value ? g - b : g == value ? b - r : r - g;
  const int sign = lean < 0 ? -1 : 1;
  const float away = static_cast<float>(value - middle) / static_cast<float>(std::max(range, 1));
  float turn = (static_cast<float>(sixth + sign) - static_cast<float>(sign) * away) / 6.0f;
  turn += turn < 0.0f ? 1.0f : 0.0f;
  const int hue = (static_cast<int>(turn * 255.0f) + shift) & 255;
  const int saturation =
      static_cast<int>(static_cast<float>(range * 255) / static_cast<float>(std::max(value, 1)));
  // Back: a channel is value * (1 - saturation / 255 * distance / 255), where `distance` from the
  // channel's own hue rises from 0 to 255 in the second sixth of the circle to either side.
  // Numerators stay below 2^24, so that floats hold them exactly.
  const auto channel = [=](int distance) {
    const float d = std::clamp(static_cast<float>(distance), 0.0f, 255.0f);
    const float part = 65025.0f - static_cast<float>(saturation) * d;
    return static_cast<int>((static_cast<float>(value) * part + 32512.0f) / 65025.0f);
  };
  const auto apart = [](int x, int y) { return std::max(x - y, y - x); };
  return {channel(510 - apart(6 * hue, 765)), channel(apart(6 * hue, 510) - 255),
          channel(apart(6 * hue, 1020) - 255)};
}

// Where the pixels of a rotated image come from: the centre of pixel (row, column) from
//   (x_first + row x_down + column x_right, y_first + row y_down + column y_right)
// in 16.16 fixed-point numbers.
struct Rotation {
  Index x_first, y_first;
  Index x_right, y_right;
  Index x_down, y_down;

  // Counter-clockwise about the centre of an image, which may be mirrored before. Throws Error for
  // an angle that is no number.
  static Rotation of(Index height, Index width, double degrees, bool mirrored = false);

  // The number of the pixel that comes to (row, column), -1 where it lies outside of the image.
  constexpr Index source(Index height, Index width, Index row, Index column) const {
    const Index x = (x_first + row * x_down + column * x_right) >> 16;
    const Index y = (y_first + row * y_down + column * y_right) >> 16;
    return x >= 0 && x < width && y >= 0 && y < height ? y * width + x : -1;
  }
};

}  // namespace chalk
