#include "data/image.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>

#include "autograd/check.h"
#include "data/files.h"

// A decoder's assertion that does not hold is remembered, for this thread's image, and not thrown
// through its C code, which would never free its memory.
static thread_local bool is_contradictory;

// stb_image and stb_image_write are single-header libraries: these lines compile them here, with
// only the decoders that are wanted and without names that other files could see.
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_FAILURE_STRINGS
#define STBI_ASSERT(holds) is_contradictory |= !(holds)
#include <stb_image.h>

#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#include <stb_image_write.h>

namespace chalk {
namespace {

// A Huffman table of a JPEG file lists at most 256 symbols. The decoder trusts the file in that and
// would write beyond its table, so this walks from marker to marker and looks at every table first.
bool has_oversized_huffman_table(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < 2 || bytes[0] != 0xff || bytes[1] != 0xd8) return false;
  std::size_t at = 2;
  while (at + 4 <= bytes.size()) {
    const std::uint8_t marker = bytes[at + 1];
    // No marker here, or one without a length: 0 and restarts occur within coded pixels.
    if (bytes[at] != 0xff || marker == 0 || (marker >= 0xd0 && marker <= 0xd8) || marker == 0xff) {
      ++at;
      continue;
    }
    const std::size_t length = bytes[at + 2] * 256u + bytes[at + 3];
    const std::size_t end = std::min(bytes.size(), at + 2 + length);
    std::size_t table = marker == 0xc4 ? at + 4 : end;
    while (table < end) {  // its class, 16 counts of symbols by the length of their code, symbols
      std::size_t symbols = 0;
      for (std::size_t i = table + 1; i < std::min(table + 17, bytes.size()); ++i)
        symbols += bytes[i];
      if (symbols > 256) return true;
      table += 17 + symbols;
    }
    at = std::max(end, at + 2);
  }
  return false;
}

// Where the decoder finds no bytes left in a BMP file it silently goes on with zeros, so that the
// rest of the image would be black. (For JPEG and PNG a missing end is an error already.)
bool is_truncated_bmp(std::span<const std::uint8_t> bytes, Index height, Index width) {
  if (bytes[0] != 'B' || bytes[1] != 'M') return false;
  if (bytes.size() < 30) return true;
  const auto word = [&](std::size_t position) -> Index {
    return bytes[position] + 256 * bytes[position + 1];
  };
  const Index first_pixel = word(10) + 65536 * word(12);
  const bool old_header = word(14) == 12;  // of OS/2, with 16-bit sizes
  const Index bits_per_pixel = word(old_header ? 24 : 28);
  const Index row_bytes = (width * bits_per_pixel + 31) / 32 * 4;
  return static_cast<Index>(bytes.size()) < first_pixel + row_bytes * height;
}

void append(void* target, void* data, int size) {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  auto& out = *static_cast<std::vector<std::uint8_t>*>(target);
  out.insert(out.end(), bytes, bytes + size);
}

void check_image(const std::string& path, const Image& image) {
  check(image.height > 0 && image.width > 0 && image.height <= kMaxImagePixels / image.width,
        "cannot write ", path, ": the image has ", image.height, " x ", image.width,
        " pixels, expected 1 to ", kMaxImagePixels);
  check(static_cast<Index>(image.pixels.size()) == image.height * image.width * 3, "cannot write ",
        path, ": an image of ", image.height, " x ", image.width, " has ",
        image.height * image.width * 3, " bytes, not ", image.pixels.size());
}

}  // namespace

Image read_image(const std::string& path) {
  return decode_image(read_file(path), path);
}

Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name) {
  check(!bytes.empty(), "cannot read image ", name, ": it is empty; restore or remove it");
  check(bytes.size() <= std::numeric_limits<int>::max(), "cannot read image ", name, ": its ",
        bytes.size(), " bytes are too many for an image file; make it smaller");
  check(!has_oversized_huffman_table(bytes), "cannot read image ", name,
        ": its Huffman tables are damaged; restore or remove it");
  const int size = static_cast<int>(bytes.size());
  int width = 0, height = 0, channels = 0;
  // The header alone first: an image may claim any size, and decoding would allocate it.
  check(stbi_info_from_memory(bytes.data(), size, &width, &height, &channels), "cannot read image ",
        name, ": it is no JPEG, PNG or BMP file, or its header is damaged; restore or remove it");
  check(width > 0 && height > 0 && height <= kMaxImagePixels / width, "cannot read image ", name,
        ": it claims ", height, " x ", width, " pixels, the limit is ", kMaxImagePixels,
        "; make it smaller");
  check(width <= kMaxImageSide && height <= kMaxImageSide, "cannot read image ", name,
        ": it claims ", height, " x ", width, " pixels, the limit is ", kMaxImageSide,
        " either way; cut it");
  is_contradictory = false;
  const std::unique_ptr<stbi_uc, decltype(&std::free)> decoded(
      stbi_load_from_memory(bytes.data(), size, &width, &height, &channels, 3), &std::free);
  check(decoded && !is_contradictory && !is_truncated_bmp(bytes, height, width),
        "cannot read image ", name, ": its pixels are damaged or cut short; restore or remove it");
  const std::size_t count = static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * 3;
  return {height, width, {decoded.get(), decoded.get() + count}};
}

void write_jpeg(const std::string& path, const Image& image, int quality) {
  check_image(path, image);
  check(quality >= 1 && quality <= 100, "cannot write ", path, ": quality ", quality,
        " is not within 1 to 100");
  check(image.height <= kMaxImageSide && image.width <= kMaxImageSide, "cannot write ", path,
        ": JPEG files have at most ", kMaxImageSide, " rows and columns, the image has ",
        image.height, " x ", image.width, "; write a PNG");
  std::vector<std::uint8_t> bytes;
  stbi_write_jpg_to_func(append, &bytes, static_cast<int>(image.width),
                         static_cast<int>(image.height), 3, image.pixels.data(), quality);
  write_file(path, bytes);
}

void write_png(const std::string& path, const Image& image) {
  check_image(path, image);
  std::vector<std::uint8_t> bytes;
  const int width = static_cast<int>(image.width);
  check(stbi_write_png_to_func(append, &bytes, width, static_cast<int>(image.height), 3,
                               image.pixels.data(), width * 3),
        "cannot write ", path, ": not enough memory to compress ", image.height, " x ", width,
        " pixels");
  write_file(path, bytes);
}

}  // namespace chalk
