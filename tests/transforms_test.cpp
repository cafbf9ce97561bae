// Transforms against torchvision on Pillow images; the fixture is made by
// fixtures/make_transforms.py. All results are equal, byte for byte.
#include "data/transforms.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>

#include "autograd/check.h"
#include "tests/testing.h"

using namespace chalk;

namespace {

Image made(Index height, Index width) {
  Image image{height, width, {}};
  for (Index y = 0; y < height; ++y)
    for (Index x = 0; x < width; ++x)
      for (Index c = 0; c < 3; ++c)
        image.pixels.push_back(
            static_cast<std::uint8_t>(7 * x * (c + 1) + 5 * y * (3 - c) + x * y * (c + 2) / 8));
  return image;
}

Image chain(const Image& image, int number) {
  using enum ColorStep;
  const AugmentParameters chains[] = {
      {true, 6.51, 1.13f, 0.87f, 1.19f, -0.043, {kBrightness, kContrast, kSaturation, kHue}},
      {false, -9.2, 0.8f, 1.2f, 0.81f, 0.0998, {kHue, kSaturation, kContrast, kBrightness}},
      {true, -0.7, 0.95f, 1.07f, 1.0f, 0.021, {kContrast, kHue, kBrightness, kSaturation}}};
  return augment(resize(image, 224, 224), chains[number]);
}

Image apply(const std::string& operation, Image image, double argument, Index height, Index width) {
  const float factor = static_cast<float>(argument);
  if (operation == "resize") return resize(image, height, width);
  if (operation == "rotate") return rotate(image, argument);
  if (operation == "chain") return chain(image, static_cast<int>(argument));
  if (operation == "flip") flip_horizontally(image);
  if (operation == "adjust_brightness") adjust_brightness(image, factor);
  if (operation == "adjust_contrast") adjust_contrast(image, factor);
  if (operation == "adjust_saturation") adjust_saturation(image, factor);
  if (operation == "adjust_hue") adjust_hue(image, argument);
  return image;
}

}  // namespace

TEST_CASE("transforms equal torchvision on Pillow") {
  std::ifstream file(CHALK_FIXTURES "/transforms.bin", std::ios::binary);
  std::map<std::string, int> cases;
  std::string operation;
  Index in_height, in_width, height, width, every;
  double argument;
  while (file >> operation >> in_height >> in_width >> argument >> height >> width >> every) {
    CAPTURE(operation);
    CAPTURE(in_height);
    CAPTURE(argument);
    ++cases[operation];
    const Image image = apply(operation, made(in_height, in_width), argument, height, width);
    REQUIRE(image.height == height);
    REQUIRE(image.width == width);
    REQUIRE(static_cast<Index>(image.pixels.size()) == height * width * 3);
    std::vector<char> expected(static_cast<std::size_t>(width * 3));
    file.get();
    Index different = 0, largest = 0;
    for (Index row = 0; row < height; row += every) {
      file.read(expected.data(), width * 3);
      for (Index i = 0; i < width * 3; ++i) {
        const int is = image.pixels[row * width * 3 + i];
        const Index difference = std::abs(is - static_cast<std::uint8_t>(expected[i]));
        different += difference != 0;
        largest = std::max(largest, difference);
      }
    }
    CHECK(largest == 0);
    CHECK(different == 0);
  }
  CHECK(cases == std::map<std::string, int>{{"resize", 9},
                                            {"flip", 3},
                                            {"rotate", 28},
                                            {"adjust_brightness", 12},
                                            {"adjust_contrast", 12},
                                            {"adjust_saturation", 12},
                                            {"adjust_hue", 14},
                                            {"chain", 3}});
}

TEST_CASE("adjust_hue equals Pillow for each of the 2^24 colours") {
  std::uint64_t sum = 0, place = 0;
  for (int red = 0; red < 256; ++red) {
    Image colours{256, 256, {}};
    for (int i = 0; i < 65536; ++i)
      for (const int value : {red, i >> 8, i & 255})
        colours.pixels.push_back(static_cast<std::uint8_t>(value));
    adjust_hue(colours, 0.1);
    for (const std::uint8_t byte : colours.pixels)
      sum += ++place * byte;
  }
  CHECK(sum == 177397605334758399u);  // printed by make_transforms.py
}

TEST_CASE("drawn augmentations keep to their ranges and depend on the source alone") {
  // A source as plain as can be: the fractions of multiples of the golden ratio.
  double state = 0;
  int calls = 0;
  const auto uniform = [&] {
    ++calls;
    state += 0.6180339887498949;
    return state - std::floor(state);
  };
  std::map<std::array<ColorStep, 4>, int> orders;
  int flips = 0;
  const int draws = 2400;
  double least_degrees = 99, most_degrees = -99;
  for (int i = 0; i < draws; ++i) {
    state = i * 0.7548776662466927;
    const AugmentParameters drawn = draw_augmentation(uniform);
    flips += drawn.flip;
    least_degrees = std::min(least_degrees, drawn.degrees);
    most_degrees = std::max(most_degrees, drawn.degrees);
    ++orders[drawn.order];
    for (const float factor : {drawn.brightness, drawn.contrast, drawn.saturation})
      CHECK(std::abs(factor - 1.0f) <= 0.2001f);
    CHECK(std::abs(drawn.hue) <= 0.1);
  }
  CHECK(calls == 9 * draws);
  CHECK(std::abs(flips - draws / 2) < 24);
  CHECK(least_degrees >= -10);
  CHECK(least_degrees < -9.9);
  CHECK(most_degrees <= 10);
  CHECK(most_degrees > 9.9);

  const auto highest = [] { return 0x1.fffffffffffffp-1; };
  const AugmentParameters last = draw_augmentation(highest, {1.0, 0, 0, 0, 0, 0});
  CHECK(last.flip);
  CHECK(last.degrees == 0);
  CHECK(last.brightness == 1.0f);
  CHECK(last.hue == 0);
  const Image image = made(9, 5);
  Image flipped = image;
  flip_horizontally(flipped);
  adjust_hue(flipped, 0.0);  // not the identity: hues are bytes
  CHECK(augment(image, last).pixels == flipped.pixels);
}

TEST_CASE("augment mirrors, then rotates") {
  for (const auto& [height, width] : {std::pair{9, 5}, {4, 8}, {1, 7}})
    for (const double degrees : {0.0, 3.3, -45.0, 90.0, 180.0, 271.0}) {
      Image expected = made(height, width);
      flip_horizontally(expected);
      expected = rotate(expected, degrees);
      adjust_hue(expected, 0.0);
      CHECK(augment(made(height, width), {.flip = true, .degrees = degrees}).pixels ==
            expected.pixels);
    }
}

TEST_CASE("a batch is augmented image by image, on every device") {
  std::vector<std::uint8_t> before, after;
  std::vector<AugmentParameters> parameters;
  Generator random{2, 0};
  for (int i = 0; i < 3; ++i) {
    parameters.push_back(draw_augmentation([&random] { return random.uniform(); }));
    const Image image = resize(made(9 + i, 5), 9, 5);
    const Image augmented = augment(image, parameters.back());
    before.insert(before.end(), image.pixels.begin(), image.pixels.end());
    after.insert(after.end(), augmented.pixels.begin(), augmented.pixels.end());
  }
  const Tensor images = Tensor::from(before, {3, 9, 5, 3});
  for (const Device device : testing::devices()) {
    const Tensor moved = images.to(device), augmented = augment(moved, parameters);
    CHECK(augmented.device() == device);
    CHECK(augmented.to_vector<std::uint8_t>() == after);
    CHECK(moved.to_vector<std::uint8_t>() == before);
    const auto fails_with = [&](auto change, const char* text) {
      std::vector<AugmentParameters> changed = parameters;
      change(changed);
      CHECK_THROWS_WITH_AS(augment(moved, changed), doctest::Contains(text), Error);
    };
    fails_with([](auto& p) { p.pop_back(); }, "2 parameters for uint8 images [3, 9, 5, 3]");
    fails_with([](auto& p) { p[1].degrees = NAN; }, "angle is nan");
    fails_with([](auto& p) { p[1].saturation = INFINITY; }, "factor is inf");
    fails_with([](auto& p) { p[1].hue = 0.6; }, "turn is 0.6");
    fails_with([](auto& p) { p[1].order[0] = p[1].order[1]; }, "each colour step once");
    CHECK_THROWS_WITH_AS(augment(moved.to(DType::float32), parameters),
                         doctest::Contains("float32 images"), Error);
  }
}

TEST_CASE("every order of the colour steps is drawn equally often") {
  // All 24 ways to fill the three draws that decide the order: each order once.
  std::map<std::array<ColorStep, 4>, int> orders;
  for (int a = 0; a < 4; ++a)
    for (int b = 0; b < 3; ++b)
      for (int c = 0; c < 2; ++c) {
        const double draws[9] = {0, 0, (a + 0.5) / 4, (b + 0.5) / 3, (c + 0.5) / 2, 0, 0, 0, 0};
        int next = 0;
        ++orders[draw_augmentation([&] { return draws[next++]; }).order];
      }
  CHECK(orders.size() == 24);
}

TEST_CASE("white stays white where weights are so many that rounding adds up") {
  const Image white{1, 5'000'000, std::vector<std::uint8_t>(15'000'000, 255)};
  CHECK(resize(white, 1, 1).pixels == std::vector<std::uint8_t>(3, 255));
}

TEST_CASE("floats are bytes divided by 255") {
  const Image image{1, 2, {0, 1, 51, 127, 254, 255}};
  float floats[6];
  image_to_floats(image, floats);
  for (int i = 0; i < 6; ++i)
    CHECK(floats[i] == static_cast<float>(image.pixels[i]) / 255.0f);
  CHECK(floats[2] == 0.2f);
  CHECK(floats[5] == 1.0f);
}

TEST_CASE("transforms refuse what makes no sense") {
  CHECK_THROWS_WITH_AS(resize(made(2, 2), 0, 5), doctest::Contains("into 0 x 5"), Error);
  CHECK_THROWS_WITH_AS(resize(made(2, 2), 1 << 20, 1 << 20), doctest::Contains("expected"), Error);
  CHECK_THROWS_WITH_AS(resize(made(9000, 1), 1, 9000), doctest::Contains("9000 x 1"), Error);
  CHECK_THROWS_WITH_AS(resize(Image{}, 5, 5), doctest::Contains("no pixels"), Error);
  Image image = made(2, 2);
  CHECK_THROWS_WITH_AS(adjust_hue(image, 0.51), doctest::Contains("turn is 0.51"), Error);
  CHECK_THROWS_WITH_AS(adjust_hue(image, std::nan("")), doctest::Contains("turn is nan"), Error);
  CHECK_THROWS_WITH_AS(rotate(image, INFINITY), doctest::Contains("angle is inf"), Error);
  for (const auto step : {adjust_brightness, adjust_contrast, adjust_saturation}) {
    CHECK_THROWS_WITH_AS(step(image, NAN), doctest::Contains("factor is nan"), Error);
    step(image, 3e38f);
  }
  Image wrong{2, 2, {1, 2, 3}};
  const auto message = doctest::Contains("an image of 2 x 2 can't have 3 bytes");
  CHECK_THROWS_WITH_AS(resize(wrong, 3, 3), message, Error);
  CHECK_THROWS_WITH_AS(flip_horizontally(wrong), message, Error);
  CHECK_THROWS_WITH_AS(rotate(wrong, 3), message, Error);
  CHECK_THROWS_WITH_AS(adjust_contrast(wrong, 1), message, Error);
  CHECK_THROWS_WITH_AS(adjust_saturation(wrong, 1), message, Error);
  CHECK_THROWS_WITH_AS(adjust_hue(wrong, 0), message, Error);
  Image empty;
  adjust_contrast(empty, 1.1f);
  adjust_hue(empty, 0.1);
  flip_horizontally(empty);
  CHECK(rotate(empty, 3).pixels.empty());
}
