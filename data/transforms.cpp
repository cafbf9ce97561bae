#include "data/transforms.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numbers>
#include <utility>

#include "autograd/check.h"

namespace chalk {
namespace {

using Byte = std::uint8_t;

// ---- resize -----------------------------------------------------------------------------------

// Weights are fixed-point numbers with this many fraction bits: 255 * 2^22 still fits an int.
constexpr int kFractionBits = 22;
constexpr int kHalf = 1 << (kFractionBits - 1);

// For every output position the window of input positions that it is the weighted mean of:
// output[i] = sum over t < taps of input[first[i] + t] * weight[i * taps + t].
struct Windows {
  Index taps;
  std::vector<Index> first;
  std::vector<int> weight;
};

// The triangle filter of Pillow: input position x has the weight 1 - |x + 0.5 - centre| / radius,
// normalised to the sum 1, where the radius is one output pixel, but at least one input pixel.
Windows triangle_windows(Index in_size, Index out_size) {
  const double scale = static_cast<double>(in_size) / static_cast<double>(out_size);
  const double radius = std::max(scale, 1.0);
  Windows windows;
  windows.taps = std::min(in_size, static_cast<Index>(std::ceil(2 * radius)));
  windows.first.resize(static_cast<std::size_t>(out_size));
  windows.weight.resize(static_cast<std::size_t>(out_size * windows.taps));
  std::vector<double> triangle(static_cast<std::size_t>(windows.taps));
  for (Index i = 0; i < out_size; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const Index end = std::min(in_size, static_cast<Index>(centre + radius + 0.5));
    const Index begin =
        std::max({Index{0}, static_cast<Index>(centre - radius + 0.5), end - windows.taps});
    // A window of all `taps` positions would reach over the end: begin it earlier, with zeros.
    const Index first = std::min(begin, in_size - windows.taps);
    double sum = 0.0;
    for (Index t = 0; t < windows.taps; ++t) {
      const Index x = first + t;
      const double distance = std::abs(static_cast<double>(x) - centre + 0.5) / radius;
      triangle[t] = x >= begin && x < end ? std::max(0.0, 1.0 - distance) : 0.0;
      sum += triangle[t];
    }
    windows.first[i] = first;
    for (Index t = 0; t < windows.taps; ++t)
      windows.weight[i * windows.taps + t] =
          static_cast<int>(0.5 + triangle[t] / sum * (1 << kFractionBits));
  }
  return windows;
}

// in [height, in_width, 3] -> out [height, windows, 3]
void resize_rows(const Byte* in, Index height, Index in_width, const Windows& windows, Byte* out) {
  const Index out_width = static_cast<Index>(windows.first.size()), row_bytes = out_width * 3;
  // Tap by tap, with the weights spread over the three channels, so that the sums vectorise.
  std::vector<int> weight(windows.taps * row_bytes), sums(row_bytes);
  for (Index t = 0; t < windows.taps; ++t)
    for (Index j = 0; j < row_bytes; ++j)
      weight[t * row_bytes + j] = windows.weight[j / 3 * windows.taps + t];
  std::vector<Byte> tap(row_bytes);
  for (Index row = 0; row < height; ++row, in += in_width * 3, out += row_bytes) {
    std::fill(sums.begin(), sums.end(), kHalf);
    for (Index t = 0; t < windows.taps; ++t) {
      for (Index column = 0; column < out_width; ++column)
        std::memcpy(&tap[column * 3], in + (windows.first[column] + t) * 3, 3);
      for (Index j = 0; j < row_bytes; ++j)
        sums[j] += tap[j] * weight[t * row_bytes + j];
    }
    for (Index j = 0; j < row_bytes; ++j)
      out[j] = static_cast<Byte>(sums[j] >> kFractionBits);
  }
}

// in [in_height, row_bytes] -> out [windows, row_bytes]
void resize_columns(const Byte* in, Index row_bytes, const Windows& windows, Byte* out) {
  std::vector<int> sums(row_bytes);
  const int* weight = windows.weight.data();
  for (const Index first : windows.first) {
    std::fill(sums.begin(), sums.end(), kHalf);
    const Byte* row = in + first * row_bytes;
    for (Index t = 0; t < windows.taps; ++t, row += row_bytes, ++weight)
      for (Index j = 0; j < row_bytes; ++j)
        sums[j] += row[j] * *weight;
    for (Index j = 0; j < row_bytes; ++j)
      out[j] = static_cast<Byte>(sums[j] >> kFractionBits);
    out += row_bytes;
  }
}

// ---- colours ----------------------------------------------------------------------------------

// The pixels of a stretch of an image, channel by channel, as the compiler vectorises best.
struct PixelBlock {
  static constexpr Index kSize = 128;
  Index size;
  int red[kSize], green[kSize], blue[kSize];

  void load(const Byte* pixels, Index pixel_count) {
    size = std::min(kSize, pixel_count);
    for (Index i = 0; i < size; ++i) {
      red[i] = pixels[3 * i];
      green[i] = pixels[3 * i + 1];
      blue[i] = pixels[3 * i + 2];
    }
  }

  void store(Byte* pixels) const {
    for (Index i = 0; i < size; ++i) {
      pixels[3 * i] = static_cast<Byte>(red[i]);
      pixels[3 * i + 1] = static_cast<Byte>(green[i]);
      pixels[3 * i + 2] = static_cast<Byte>(blue[i]);
    }
  }
};

// The luma of ITU-R 601-2, 0.299 R + 0.587 G + 0.114 B, in 16.16 fixed point.
inline int grey(int red, int green, int blue) {
  return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
}

// From `base` towards `value` and, for a factor over 1, beyond; the fraction is cut off. Pillow
// rounds the product and the sum, hence CMakeLists.txt forbids a fused multiply-add in this file.
inline int blend(int base, int value, float factor) {
  const float blended = static_cast<float>(base) + factor * static_cast<float>(value - base);
  return static_cast<int>(std::clamp(blended, 0.0f, 255.0f));
}

void blend_with_constant(Image& image, int base, float factor) {
  for (Byte& value : image.pixels)
    value = static_cast<Byte>(blend(base, value, factor));
}

// RGB -> HSV, hue + shift (modulo 256), HSV -> RGB, all three on one block. Hue, saturation and
// value are bytes. Free of branches, so that 16 pixels are turned at a time.
void shift_hue(PixelBlock& block, int shift) {
  for (Index i = 0; i < block.size; ++i) {
    const int r = block.red[i], g = block.green[i], b = block.blue[i];
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
    block.red[i] = channel(510 - std::abs(6 * hue - 765));
    block.green[i] = channel(std::abs(6 * hue - 510) - 255);
    block.blue[i] = channel(std::abs(6 * hue - 1020) - 255);
  }
}

Index pixel_count(const Image& image) {
  return image.height * image.width;
}

}  // namespace

Image resize(const Image& image, Index height, Index width) {
  check(image.height > 0 && image.width > 0, "resize: the image has no pixels; it is ",
        image.height, " x ", image.width);
  check(height > 0 && width > 0 && height <= kMaxImagePixels / width, "resize: cannot make ",
        height, " x ", width, " pixels, expected 1 to ", kMaxImagePixels);
  if (height == image.height && width == image.width) return image;
  std::vector<Byte> narrow(static_cast<std::size_t>(image.height * width * 3));
  resize_rows(image.pixels.data(), image.height, image.width, triangle_windows(image.width, width),
              narrow.data());
  Image out{height, width, std::vector<Byte>(static_cast<std::size_t>(height * width * 3))};
  resize_columns(narrow.data(), width * 3, triangle_windows(image.height, height),
                 out.pixels.data());
  return out;
}

void flip_horizontally(Image& image) {
  for (Index row = 0; row < image.height; ++row) {
    Byte* left = image.pixels.data() + row * image.width * 3;
    Byte* right = left + (image.width - 1) * 3;
    for (; left < right; left += 3, right -= 3)
      std::swap_ranges(left, left + 3, right);
  }
}

Image rotate(const Image& image, double degrees) {
  const double angle = -std::fmod(degrees, 360.0) * std::numbers::pi / 180.0;
  const double cosine = std::cos(angle), sine = std::sin(angle);
  const double x0 = static_cast<double>(image.width) / 2,
               y0 = static_cast<double>(image.height) / 2;
  // Where an output pixel comes from, in 16.16 fixed point: one step to the right moves by
  // (step_x, -step_y) in the input, one step down by (step_y, step_x).
  const auto fixed = [](double value) {
    return static_cast<Index>(std::floor(value * 65536.0 + 0.5));
  };
  const Index step_x = fixed(cosine), step_y = fixed(sine), step_back = fixed(-sine);
  Index row_x = fixed(x0 - cosine * x0 - sine * y0 + cosine * 0.5 + sine * 0.5);
  Index row_y = fixed(y0 + sine * x0 - cosine * y0 - sine * 0.5 + cosine * 0.5);

  Image out{image.height, image.width, std::vector<Byte>(image.pixels.size())};
  Byte* target = out.pixels.data();
  // As unsigned numbers, negative positions lie beyond the image too: one comparison does for both.
  const auto height = static_cast<std::uint64_t>(image.height);
  const auto width = static_cast<std::uint64_t>(image.width);
  for (Index row = 0; row < image.height; ++row, row_x += step_y, row_y += step_x) {
    Index x = row_x, y = row_y;
    for (Index column = 0; column < image.width; ++column) {
      const auto in_x = static_cast<std::uint64_t>(x >> 16);
      const auto in_y = static_cast<std::uint64_t>(y >> 16);
      if (in_x < width && in_y < height)
        std::memcpy(target, &image.pixels[(in_y * width + in_x) * 3], 3);
      target += 3;
      x += step_x;
      y += step_back;
    }
  }
  return out;
}

void adjust_brightness(Image& image, float factor) {
  blend_with_constant(image, 0, factor);
}

void adjust_contrast(Image& image, float factor) {
  const Index count = pixel_count(image);
  const Byte* pixels = image.pixels.data();
  Index sum = 0;
  for (Index i = 0; i < count; ++i)
    sum += grey(pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2]);
  const double mean = static_cast<double>(sum) / static_cast<double>(std::max<Index>(count, 1));
  blend_with_constant(image, static_cast<int>(mean + 0.5), factor);
}

void adjust_saturation(Image& image, float factor) {
  PixelBlock block;
  for (Index i = 0; i < pixel_count(image); i += PixelBlock::kSize) {
    block.load(&image.pixels[3 * i], pixel_count(image) - i);
    for (Index j = 0; j < block.size; ++j) {
      const int base = grey(block.red[j], block.green[j], block.blue[j]);
      block.red[j] = blend(base, block.red[j], factor);
      block.green[j] = blend(base, block.green[j], factor);
      block.blue[j] = blend(base, block.blue[j], factor);
    }
    block.store(&image.pixels[3 * i]);
  }
}

void adjust_hue(Image& image, double turn) {
  check(turn >= -0.5 && turn <= 0.5, "adjust_hue: a turn of ", turn, " is not within -0.5 and 0.5");
  const int shift = static_cast<int>(turn * 255);
  PixelBlock block;
  for (Index i = 0; i < pixel_count(image); i += PixelBlock::kSize) {
    block.load(&image.pixels[3 * i], pixel_count(image) - i);
    shift_hue(block, shift);
    block.store(&image.pixels[3 * i]);
  }
}

AugmentParameters draw_augmentation(const std::function<double()>& uniform,
                                    const Augmentation& ranges) {
  const auto between = [&](double low, double high) { return low + (high - low) * uniform(); };
  const auto factor = [&](double range) {
    return static_cast<float>(between(1.0 - range, 1.0 + range));
  };
  AugmentParameters drawn;
  drawn.flip = uniform() < ranges.flip_probability;
  drawn.degrees = between(-ranges.degrees, ranges.degrees);
  // Fisher-Yates: every order is equally likely.
  for (int last = 3; last > 0; --last)
    std::swap(drawn.order[last], drawn.order[static_cast<int>(uniform() * (last + 1))]);
  drawn.brightness = factor(ranges.brightness);
  drawn.contrast = factor(ranges.contrast);
  drawn.saturation = factor(ranges.saturation);
  drawn.hue = between(-ranges.hue, ranges.hue);
  return drawn;
}

Image augment(const Image& image, const AugmentParameters& parameters) {
  Image out = image;
  if (parameters.flip) flip_horizontally(out);
  out = rotate(out, parameters.degrees);
  for (const ColorStep step : parameters.order)
    switch (step) {
      case ColorStep::kBrightness:
        adjust_brightness(out, parameters.brightness);
        break;
      case ColorStep::kContrast:
        adjust_contrast(out, parameters.contrast);
        break;
      case ColorStep::kSaturation:
        adjust_saturation(out, parameters.saturation);
        break;
      case ColorStep::kHue:
        adjust_hue(out, parameters.hue);
        break;
    }
  return out;
}

void image_to_floats(const Image& image, float* out) {
  for (std::size_t i = 0; i < image.pixels.size(); ++i)
    out[i] = static_cast<float>(image.pixels[i]) / 255.0f;
}

}  // namespace chalk
