#include "data/transforms.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <utility>

#include "autograd/check.h"
#include "autograd/devices.h"
#include "data/pixel.h"

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

// A sum of bytes times weights. Where thousands of weights were rounded, white may come out whiter.
inline Byte to_byte(int sum) {
  return static_cast<Byte>(std::min(sum >> kFractionBits, 255));
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
      out[j] = to_byte(sums[j]);
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
      out[j] = to_byte(sums[j]);
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

// pixel = f(pixel) for all of them.
template <typename F>
void for_each_pixel(Image& image, const F& f) {
  const Index count = image.height * image.width;
  PixelBlock block;
  for (Index first = 0; first < count; first += PixelBlock::kSize) {
    block.load(&image.pixels[3 * first], count - first);
    for (Index i = 0; i < block.size; ++i) {
      const Pixel p = f(Pixel{block.red[i], block.green[i], block.blue[i]});
      block.red[i] = p.red;
      block.green[i] = p.green;
      block.blue[i] = p.blue;
    }
    block.store(&image.pixels[3 * first]);
  }
}

void blend_with_constant(Image& image, int base, float factor) {
  for (Byte& value : image.pixels)
    value = static_cast<Byte>(blend(base, value, factor));
}

// The number of pixels; fails unless the image holds as many bytes as its size says.
Index checked_pixel_count(const char* operation, const Image& image) {
  const auto [shorter, longer] = std::minmax(image.height, image.width);
  const Index count = shorter >= 0 && longer <= kMaxImagePixels ? shorter * longer : -1;
  check(count <= kMaxImagePixels && static_cast<Index>(image.pixels.size()) == 3 * count, operation,
        ": an image of ", image.height, " x ", image.width, " can't have ", image.pixels.size(),
        " bytes; expected 3 for each pixel, of which there may be ", kMaxImagePixels);
  return count;
}

// Black where the rotation knows nothing. Sizes and rotation are copies, so that the compiler knows
// that no byte written changes them.
Image rotated(const Image& image, const Rotation rotation) {
  const Index height = image.height, width = image.width;
  const Byte* from = image.pixels.data();
  Image out{height, width, std::vector<Byte>(image.pixels.size())};
  Byte* target = out.pixels.data();
  for (Index row = 0; row < height; ++row)
    for (Index column = 0; column < width; ++column, target += 3) {
      const Index source = rotation.source(height, width, row, column);
      if (source >= 0) std::memcpy(target, from + 3 * source, 3);
    }
  return out;
}

void check_factor(const char* operation, float factor) {
  check(std::isfinite(factor), operation, ": the factor is ", factor, ", expected a number");
}

void check_turn(double turn) {
  check(turn >= -0.5 && turn <= 0.5, "adjust_hue: the turn is ", turn, ", expected -0.5 to 0.5");
}

void check_range(const char* name, double range, double most = 1e6) {
  check(range >= 0 && range <= most, "draw_augmentation: ", name, " is ", range, ", expected 0 to ",
        most);
}

}  // namespace

Image resize(const Image& image, Index height, Index width) {
  check(checked_pixel_count("resize", image) > 0, "resize: the image has no pixels");
  // The image between the two passes, image.height x width, must not be too large either.
  check(height > 0 && width > 0 && std::max(height, image.height) <= kMaxImagePixels / width,
        "resize: cannot turn ", image.height, " x ", image.width, " pixels into ", height, " x ",
        width, "; expected 1 to ", kMaxImagePixels);
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
  if (checked_pixel_count("flip_horizontally", image) == 0) return;
  for (Index row = 0; row < image.height; ++row) {
    Byte* left = image.pixels.data() + row * image.width * 3;
    Byte* right = left + (image.width - 1) * 3;
    for (; left < right; left += 3, right -= 3)
      std::swap_ranges(left, left + 3, right);
  }
}

Rotation Rotation::of(Index height, Index width, double degrees, bool mirrored) {
  check(std::isfinite(degrees), "rotate: the angle is ", degrees, ", expected a number");
  const double angle = std::fmod(degrees, 360.0) * std::numbers::pi / 180.0;
  const double cosine = std::cos(angle), sine = std::sin(angle);
  const double w = static_cast<double>(width), h = static_cast<double>(height);
  // The centre of an output pixel (x, y), seen from the centre of the image, comes from
  //   (cosine x - sine y, sine x + cosine y)
  const auto fixed = [](double value) {
    return static_cast<Index>(std::floor(value * 65536 + 0.5));
  };
  Rotation from{.x_first = fixed((w - cosine * (w - 1) + sine * (h - 1)) / 2),
                .y_first = fixed((h - sine * (w - 1) - cosine * (h - 1)) / 2),
                .x_right = fixed(cosine),
                .y_right = fixed(sine),
                .x_down = fixed(-sine),
                .y_down = fixed(cosine)};
  if (mirrored) {  // the largest number of column width - 1 - c is opposite to the least of c
    from.x_first = width * 65536 - 1 - from.x_first;
    from.x_right = -from.x_right;
    from.x_down = -from.x_down;
  }
  return from;
}

Image rotate(const Image& image, double degrees) {
  checked_pixel_count("rotate", image);
  return rotated(image, Rotation::of(image.height, image.width, degrees));
}

void adjust_brightness(Image& image, float factor) {
  check_factor("adjust_brightness", factor);
  blend_with_constant(image, 0, factor);
}

void adjust_contrast(Image& image, float factor) {
  check_factor("adjust_contrast", factor);
  const Index count = checked_pixel_count("adjust_contrast", image);
  if (count == 0) return;
  const Byte* pixels = image.pixels.data();
  Index sum = 0;
  for (Index i = 0; i < count; ++i)
    sum += grey({pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2]});
  blend_with_constant(image, mean_grey(static_cast<double>(sum), count), factor);
}

void adjust_saturation(Image& image, float factor) {
  check_factor("adjust_saturation", factor);
  checked_pixel_count("adjust_saturation", image);
  for_each_pixel(image, [factor](const Pixel& p) { return blend(grey(p), p, factor); });
}

void adjust_hue(Image& image, double turn) {
  check_turn(turn);
  checked_pixel_count("adjust_hue", image);
  for_each_pixel(image, [shift = hue_shift(turn)](const Pixel& p) { return turn_hue(p, shift); });
}

AugmentParameters draw_augmentation(const std::function<double()>& uniform,
                                    const Augmentation& ranges) {
  check(uniform != nullptr, "draw_augmentation: no source of random numbers was given");
  check_range("flip_probability", ranges.flip_probability, 1);
  check_range("degrees", ranges.degrees);
  check_range("brightness", ranges.brightness);
  check_range("contrast", ranges.contrast);
  check_range("saturation", ranges.saturation);
  check_range("hue", ranges.hue, 0.5);
  const auto draw = [&] {
    const double number = uniform();
    check(number >= 0 && number < 1, "draw_augmentation: the source gave ", number,
          ", expected numbers in [0, 1)");
    return number;
  };
  const auto between = [&](double low, double high) { return low + (high - low) * draw(); };
  const auto factor = [&](double range) {
    return static_cast<float>(between(1.0 - range, 1.0 + range));
  };
  AugmentParameters drawn;
  drawn.flip = draw() < ranges.flip_probability;
  drawn.degrees = between(-ranges.degrees, ranges.degrees);
  // Fisher-Yates: every order is equally likely.
  for (int last = 3; last > 0; --last)
    std::swap(drawn.order[last], drawn.order[static_cast<int>(draw() * (last + 1))]);
  drawn.brightness = factor(ranges.brightness);
  drawn.contrast = factor(ranges.contrast);
  drawn.saturation = factor(ranges.saturation);
  drawn.hue = between(-ranges.hue, ranges.hue);
  return drawn;
}

Image augment(const Image& image, const AugmentParameters& parameters) {
  checked_pixel_count("augment", image);
  Image out =
      rotated(image, Rotation::of(image.height, image.width, parameters.degrees, parameters.flip));
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

Tensor augment(const Tensor& images, const std::vector<AugmentParameters>& parameters) {
  check(images.dtype() == DType::uint8 && images.dim() == 4 && images.size(3) == 3 &&
            images.size(0) == static_cast<Index>(parameters.size()),
        "augment: ", parameters.size(), " parameters for ", to_string(images.dtype()), " images ",
        to_string(images.shape()), "; expected uint8 [as many, height, width, 3]");
  for (const AugmentParameters& drawn : parameters) {
    check_factor("adjust_brightness", drawn.brightness);
    check_factor("adjust_contrast", drawn.contrast);
    check_factor("adjust_saturation", drawn.saturation);
    check_turn(drawn.hue);
    check(std::is_permutation(drawn.order.begin(), drawn.order.end(),
                              AugmentParameters{}.order.begin()),
          "augment: the order must have each colour step once");
  }
  if (images.device() != Device::cpu) return cuda_augment(images, parameters);
  Tensor out(images.shape(), DType::uint8);
  const Index bytes = images.size(1) * images.size(2) * 3;
  const Byte* from = images.data<Byte>();
  Byte* to = out.mutable_data<Byte>();
  for (const AugmentParameters& drawn : parameters) {
    const Image image = augment({images.size(1), images.size(2), {from, from + bytes}}, drawn);
    to = std::copy(image.pixels.begin(), image.pixels.end(), to);
    from += bytes;
  }
  return out;
}

void image_to_floats(const Image& image, float* out) {
  check(checked_pixel_count("image_to_floats", image) == 0 || out != nullptr,
        "image_to_floats: the memory to write to is null");
  for (std::size_t i = 0; i < image.pixels.size(); ++i)
    out[i] = static_cast<float>(image.pixels[i]) / 255.0f;
}

}  // namespace chalk
