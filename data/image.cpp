#include "data/image.h"

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "autograd/check.h"
#include "data/files.h"
#include "data/jpeg.h"

// stb_image gets its memory here: cleared, so that no pixel of a damaged file depends on what was
// there before, and never much more than the image needs, however much its data inflate to.
static thread_local std::size_t allocation_limit;

static void* allocate(std::size_t bytes) {
  return bytes <= allocation_limit ? std::calloc(bytes, 1) : nullptr;
}

static void* reallocate(void* memory, std::size_t bytes) {
  return bytes <= allocation_limit ? std::realloc(memory, bytes) : nullptr;
}

// stb_image and stb_image_write are single-header libraries: these lines compile them here, with
// only the decoders that are wanted and without names that other files could see.
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_FAILURE_STRINGS
#define STBI_ASSERT(holds) static_cast<void>(0)  // check_jpeg makes sure of the one that may fail
#define STBI_MALLOC allocate
#define STBI_REALLOC reallocate
#define STBI_FREE std::free
#include <stb_image.h>

#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#include <stb_image_write.h>

namespace chalk {
namespace {

constexpr const char* kCutShort = "it is cut short; restore or remove it";
constexpr std::size_t kDecoderBytes = 65536;  // what stb_image keeps besides pixels
constexpr std::uint8_t kJpegSignature[] = {0xff, 0xd8};
constexpr std::uint8_t kPngSignature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
constexpr std::uint8_t kBmpSignature[] = {'B', 'M'};

bool begins_with(std::span<const std::uint8_t> bytes, std::span<const std::uint8_t> signature) {
  return bytes.size() >= signature.size() &&
         std::equal(signature.begin(), signature.end(), bytes.begin());
}

// The size alone: the decoder refuses a file that is cut short.
void check_png(std::span<const std::uint8_t> bytes) {
  check(bytes.size() >= 33, kCutShort);
  const auto number = [&](std::size_t position) {
    Index value = 0;
    for (std::size_t i = position; i < position + 4; ++i)
      value = 256 * value + bytes[i];
    return value;
  };
  check(bytes[12] == 'I' && bytes[13] == 'H' && bytes[14] == 'D' && bytes[15] == 'R',
        "it is no standard PNG file: it does not begin with its size; convert it");
  check_image_size(number(20), number(16));
}

// The size, and the end: where the decoder finds no bytes left it silently goes on with zeros, so
// that the rest of the image would be black.
void check_bmp(std::span<const std::uint8_t> bytes) {
  check(bytes.size() >= 34, kCutShort);
  const auto number = [&](std::size_t position, std::size_t size) {  // little endian
    Index value = 0;
    for (std::size_t i = size; i-- > 0;)
      value = 256 * value + bytes[position + i];
    return value;
  };
  const Index header_bytes = number(14, 4), first_pixel = number(10, 4);
  const bool old_header = header_bytes == 12;  // of OS/2, with 16-bit sizes
  const Index width = old_header ? number(18, 2) : number(18, 4);
  const Index rows = old_header ? number(20, 2) : static_cast<std::int32_t>(number(22, 4));
  const Index height = std::abs(rows);  // negative: from the top down
  check_image_size(height, width);
  const Index compression = old_header ? 0 : number(30, 4);
  check(compression == 0 || compression == 3, "it is a compressed BMP file; save it uncompressed");
  check(first_pixel >= 14 + header_bytes,
        "it is damaged: its pixels begin in its header; restore or remove it");
  const Index row_bytes = (width * number(old_header ? 24 : 28, 2) + 31) / 32 * 4;
  check(static_cast<Index>(bytes.size()) >= first_pixel + row_bytes * height, kCutShort);
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

void check_image_size(Index height, Index width) {
  check(width > 0 && height > 0, "it claims ", height, " x ", width,
        " pixels, none; restore or remove it");
  check(height <= kMaxImagePixels / width, "it claims ", height, " x ", width,
        " pixels, the limit is ", kMaxImagePixels, "; make it smaller");
  check(width <= kMaxImageSide && height <= kMaxImageSide, "it claims ", height, " x ", width,
        " pixels, the limit is ", kMaxImageSide, " either way; cut it");
}

Image read_image(const std::string& path) {
  return decode_image(read_file(path), path);
}

Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name) {
  const std::string reading = "cannot read image " + name;
  const ErrorScope scope(reading);
  check(!bytes.empty(), "it is empty; restore or remove it");
  check(bytes.size() <= kMaxFileBytes, "its ", bytes.size(),
        " bytes are too many for an image file; make it smaller");
  if (begins_with(bytes, kJpegSignature))
    check_jpeg(bytes);
  else if (begins_with(bytes, kPngSignature))
    check_png(bytes);
  else if (begins_with(bytes, kBmpSignature))
    check_bmp(bytes);
  else
    fail("it is no JPEG, PNG or BMP file; restore or remove it");
  const int size = static_cast<int>(bytes.size());
  int width = 0, height = 0, channels = 0;
  allocation_limit = kDecoderBytes;
  check(stbi_info_from_memory(bytes.data(), size, &width, &height, &channels),
        "its header is damaged, or of a kind that is not supported; restore or convert it");
  // 16 bytes a pixel, in whole blocks of 32 x 32; the compressed data grow by doubling.
  allocation_limit =
      kDecoderBytes +
      16 * static_cast<std::size_t>(width + 32) * static_cast<std::size_t>(height + 32) +
      2 * bytes.size();
  const std::unique_ptr<stbi_uc, decltype(&std::free)> decoded(
      stbi_load_from_memory(bytes.data(), size, &width, &height, &channels, 3), &std::free);
  check(decoded != nullptr,
        "its pixels are damaged, cut short or more than its size; restore or remove it");
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
