// What happens to an image between its file and the network: resizing, augmentation, floats.
//
// Every function computes what torchvision 0.14 computes on Pillow images, byte for byte, so that a
// model trained here and one trained there see the same pictures. That explains arithmetic that may
// look odd: bytes between the two passes of a resize, fractions cut off instead of rounded, hues
// that are bytes.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "autograd/tensor.h"
#include "data/image.h"

namespace chalk {

// Bilinear interpolation with half-pixel centres; when it shrinks, the triangle is widened to cover
// all pixels that fall into one (antialiasing).
Image resize(const Image& image, Index height, Index width);

// Mirrors left and right.
void flip_horizontally(Image& image);

// Turns counter-clockwise about the centre; nearest neighbour, black where nothing is known.
Image rotate(const Image& image, double degrees);

// Blends with black, with the mean of the grey image, with the grey image. Factor 0 gives those,
// 1 the image, more than 1 exaggerates.
void adjust_brightness(Image& image, float factor);
void adjust_contrast(Image& image, float factor);
void adjust_saturation(Image& image, float factor);

// Turns every colour round the colour circle by this part of a whole turn, within -0.5 and 0.5.
void adjust_hue(Image& image, double turn);

// How far augmentation may go: the recipe of the FER network.
struct Augmentation {
  double flip_probability = 0.5;
  double degrees = 10.0;    // rotation U(-degrees, degrees)
  double brightness = 0.2;  // factor U(1 - brightness, 1 + brightness)
  double contrast = 0.2;
  double saturation = 0.2;
  double hue = 0.1;  // turn U(-hue, hue)
};

enum class ColorStep { kBrightness, kContrast, kSaturation, kHue };

// What one draw decided for one image.
struct AugmentParameters {
  bool flip = false;
  double degrees = 0.0;
  float brightness = 1.0f, contrast = 1.0f, saturation = 1.0f;
  double hue = 0.0;
  std::array<ColorStep, 4> order = {ColorStep::kBrightness, ColorStep::kContrast,
                                    ColorStep::kSaturation, ColorStep::kHue};
};

// Draws with nine calls of `uniform`, which gives numbers in [0, 1): always nine, so that a source
// that counts per image and epoch stays in step whatever the ranges are. Throws Error for ranges
// below 0, a probability above 1, a hue above 0.5.
AugmentParameters draw_augmentation(const std::function<double()>& uniform,
                                    const Augmentation& ranges = {});

// Flip, rotation, then the four colour steps in the order drawn.
Image augment(const Image& image, const AugmentParameters& parameters);

// The same for a batch, uint8 [batch, height, width, 3], each image by parameters of its own, on
// the device where it lies. The bytes are the same on every device.
Tensor augment(const Tensor& images, const std::vector<AugmentParameters>& parameters);

// Bytes to floats in [0, 1]: out[i] = pixels[i] / 255, [height, width, 3].
void image_to_floats(const Image& image, float* out);

}  // namespace chalk
