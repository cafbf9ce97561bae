// Images as bytes: reading JPEG, PNG and BMP files, writing JPEG and PNG files.
//
//   Image face = read_image("faces/happy/0001.jpg");
//   std::uint8_t green = face.pixels[(row * face.width + column) * 3 + 1];
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "autograd/shape.h"

namespace chalk {

// Red, green and blue bytes, [height, width, 3], row-major: the order of channels that a Tensor of
// images has too.
struct Image {
  Index height = 0, width = 0;
  std::vector<std::uint8_t> pixels;
};

// An image file that claims more pixels, or a longer side, is refused before anything is decoded.
inline constexpr Index kMaxImagePixels = 64 * 1024 * 1024;
inline constexpr Index kMaxImageSide = 65535;  // that of JPEG files

// Fails, saying so, for a size beyond these limits.
void check_image_size(Index height, Index width);

// Reads a file. Grey, palette and CMYK images are converted to RGB, transparency is dropped,
// 16 bits a channel become 8. The orientation in EXIF data is not honoured, as by PyTorch's default
// loader: the pixels are as they are stored. Fails for a missing, empty, unknown, damaged,
// truncated or huge file; what follows a whole image is ignored.
Image read_image(const std::string& path);

// The same from memory; `name` is what errors call the image.
Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name);

// Writes the file as one step, see write_file. Quality 1 (small) to 100 (faithful).
void write_jpeg(const std::string& path, const Image& image, int quality = 90);
void write_png(const std::string& path, const Image& image);

}  // namespace chalk
