// Reading and writing images. fixtures/make_images.py made the files that are read here with
// Pillow.
#include "data/image.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "autograd/check.h"
#include "tests/temporary_folder.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

const std::string fixtures = CHALK_FIXTURES "/images/";

// What every fixture shows; `grey` is its green channel alone.
Image picture(bool grey = false) {
  Image image{12, 16, {}};
  for (int y = 0; y < 12; ++y)
    for (int x = 0; x < 16; ++x) {
      const int red = 30 + 14 * x, green = 40 + 18 * y, blue = 250 - 7 * x - 9 * y;
      for (const int value : {grey ? green : red, green, grey ? green : blue})
        image.pixels.push_back(static_cast<std::uint8_t>(value));
    }
  return image;
}

// The largest difference of two bytes; 256 if the images differ in size.
int difference(const Image& a, const Image& b) {
  if (a.height != b.height || a.width != b.width || a.pixels.size() != b.pixels.size()) return 256;
  int largest = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i)
    largest = std::max(largest, std::abs(a.pixels[i] - b.pixels[i]));
  return largest;
}

}  // namespace

TEST_CASE("lossless files give the very pixels") {
  for (const char* name : {"rgb.png", "alpha.png", "palette.png", "rgb.bmp", "palette.bmp"}) {
    CAPTURE(name);
    CHECK(difference(read_image(fixtures + name), picture()) == 0);
  }
  CHECK(difference(read_image(fixtures + "grey16.png"), picture(true)) == 0);
}

// The bounds are what compression loses; Pillow decodes them to the same distance.
TEST_CASE("JPEG files give nearly the pixels: grey, CMYK, progressive with shared colours") {
  CHECK(difference(read_image(fixtures + "rgb.jpg"), picture()) <= 5);
  CHECK(difference(read_image(fixtures + "cmyk.jpg"), picture()) <= 2);
  CHECK(difference(read_image(fixtures + "grey.jpg"), picture(true)) <= 2);
  CHECK(difference(read_image(fixtures + "progressive.jpg"), picture()) <= 16);
}

TEST_CASE("images survive writing and reading") {
  const TemporaryFolder folder;
  write_png(folder / "a.png", picture());
  CHECK(difference(read_image(folder / "a.png"), picture()) == 0);
  write_jpeg(folder / "a.jpg", picture(), 100);
  CHECK(difference(read_image(folder / "a.jpg"), picture()) <= 4);
  write_jpeg(folder / "b.jpg", picture());
  CHECK(difference(read_image(folder / "b.jpg"), picture()) <= 20);

  const Image one{1, 1, {200, 100, 50}};
  write_png(folder / "one.png", one);
  CHECK(difference(read_image(folder / "one.png"), one) == 0);
  write_jpeg(folder / "one.jpg", one);
  CHECK(difference(read_image(folder / "one.jpg"), one) <= 6);
  const Image line{1, 301, std::vector<std::uint8_t>(903, 7)};
  write_png(folder / "line.png", line);
  CHECK(difference(read_image(folder / "line.png"), line) == 0);
}

TEST_CASE("a file that is cut short is refused wherever it is cut") {
  for (const auto& entry : fs::directory_iterator(fixtures)) {
    const std::vector<std::uint8_t> bytes = read_file(entry.path());
    // Of a PNG the checksum of the last, empty chunk may be missing.
    const std::size_t needed = bytes.size() - (entry.path().extension() == ".png" ? 4 : 0);
    CAPTURE(entry.path().string());
    for (std::size_t size = 0; size < needed; ++size) {
      CAPTURE(size);
      CHECK_THROWS_AS(decode_image(std::span(bytes).first(size), "cut"), Error);
    }
  }
}

TEST_CASE("unreadable images are named, with what is wrong and what to do") {
  const TemporaryFolder folder;
  const auto refused = [](const std::string& path, const char* message) {
    CHECK_THROWS_WITH_AS(read_image(path), doctest::Contains(message), Error);
    CHECK_THROWS_WITH_AS(read_image(path), doctest::Contains(path.c_str()), Error);
  };
  refused(folder / "missing.jpg", "No such file");
  refused(folder.path.string(), "it is a folder; name a file");
  write_file(folder / "empty.jpg", "");
  refused(folder / "empty.jpg", "is empty; restore or remove");
  write_file(folder / "text.jpg", "image,label\n");
  refused(folder / "text.jpg", "no JPEG, PNG or BMP file");
  std::vector<std::uint8_t> bytes = read_file(fixtures + "rgb.jpg");
  write_file(folder / "cut.jpg", std::span(bytes).first(bytes.size() / 2));
  refused(folder / "cut.jpg", "it is cut short; restore or remove it");

  // 10,000 x 10,000 pixels, for which nothing may be allocated.
  bytes = read_file(fixtures + "rgb.png");
  const std::uint8_t size[8] = {0, 0, 0x27, 0x10, 0, 0, 0x27, 0x10};
  std::copy(size, size + 8, bytes.begin() + 16);
  write_file(folder / "huge.png", bytes);
  refused(folder / "huge.png", "10000 x 10000 pixels, the limit is 67108864");
  std::copy_n("\0\0\0\1\0\1\0\0", 8, bytes.begin() + 16);
  write_file(folder / "long.png", bytes);
  refused(folder / "long.png", "65536 x 1 pixels, the limit is 65535 either way");
}

TEST_CASE("only whole images are written") {
  const TemporaryFolder folder;
  const auto refused = [&](const Image& image, const char* message) {
    CHECK_THROWS_WITH_AS(write_png(folder / "x.png", image), doctest::Contains(message), Error);
    CHECK_THROWS_WITH_AS(write_jpeg(folder / "x.jpg", image), doctest::Contains(message), Error);
  };
  refused(Image{}, "0 x 0 pixels");
  refused(Image{2, 2, {1, 2, 3}}, "2 x 2 has 12 bytes, not 3");
  refused(Image{-1, -1, {1, 2, 3}}, "-1 x -1 pixels");
  CHECK_THROWS_WITH_AS(write_jpeg(folder / "x.jpg", picture(), 0), doctest::Contains("quality 0"),
                       Error);
  const Image wide{1, 65536, std::vector<std::uint8_t>(3 * 65536)};
  CHECK_THROWS_WITH_AS(write_jpeg(folder / "x.jpg", wide), doctest::Contains("write a PNG"), Error);
  CHECK_THROWS_WITH_AS(write_png(folder / "no/x.png", picture()), doctest::Contains("No such file"),
                       Error);
  CHECK(fs::is_empty(folder.path));
}
