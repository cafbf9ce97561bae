#include "data/pictures.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>

#include "autograd/check.h"

using namespace chalk;

namespace {

using Pixel = std::array<int, 3>;

Pixel pixel(const Image& image, Index x, Index y) {
  const std::uint8_t* p = &image.pixels[static_cast<std::size_t>((y * image.width + x) * 3)];
  return {p[0], p[1], p[2]};
}

// How many pixels are more blue than red, as the first curve is.
int count_blue(const Image& image) {
  int count = 0;
  for (Index y = 64; y < image.height; ++y)
    for (Index x = 0; x < image.width; ++x)
      if (pixel(image, x, y)[2] > pixel(image, x, y)[0] + 60) ++count;
  return count;
}

}  // namespace

TEST_CASE("a confusion matrix is shaded by the shares of its rows") {
  const Image image = draw_confusion_matrix({{90, 10}, {0, 1}}, {"happy", "sad"});
  CHECK(static_cast<Index>(image.pixels.size()) == image.height * image.width * 3);
  // The cells are 56 high, end 24 from the right and bottom, and are as wide as "predicted".
  const Index right = image.width - 24, bottom = image.height - 24;
  const Index cell = (right - 117) / 2 + 1;
  const auto corner = [&](Index column, Index row) {
    return pixel(image, right - (2 - column) * cell + 5, bottom - (2 - row) * 56 + 5);
  };
  CHECK(corner(1, 1) == Pixel{28, 92, 160});    // all of the row, though it is one image
  CHECK(corner(0, 1) == Pixel{246, 247, 249});  // none
  CHECK(corner(0, 0)[2] > corner(0, 0)[0] + 80);
  CHECK(corner(0, 0)[0] > corner(1, 1)[0]);  // 90 % is paler than all
  CHECK(corner(1, 0)[0] > corner(1, 0)[2]);  // a mistake is red
}

TEST_CASE("a confusion matrix of any size, and those that are none") {
  CHECK(draw_confusion_matrix({{0}}, {""}).height > 100);
  CHECK_NOTHROW(draw_confusion_matrix(std::vector(12, std::vector<Index>(12, 1 << 30)),
                                      std::vector<std::string>(12, "a class name \xff of length")));
  CHECK_THROWS_AS(draw_confusion_matrix({}, {}), Error);
  CHECK_THROWS_WITH_AS(draw_confusion_matrix({{1, 2}}, {"a", "b"}),
                       doctest::Contains("1 rows of counts and 2 class names"), Error);
  CHECK_THROWS_WITH_AS(draw_confusion_matrix({{1, 2}, {3}}, {"a", "b"}),
                       doctest::Contains("a row has 1 counts, expected 2"), Error);
  CHECK_THROWS_AS(draw_confusion_matrix({{-1}}, {"a"}), Error);
  CHECK_THROWS_AS(draw_confusion_matrix(std::vector(101, std::vector<Index>(101)),
                                        std::vector<std::string>(101)),
                  Error);
}

TEST_CASE("curves pass through their values") {
  // The values' axis goes from 0 at y = 432 up to 2 at y = 64, epochs 1 to 3 from x = 84 to 812.
  const Image image = draw_curves("loss", {{"train", {2, 1, 0}}, {"test", {0, 0, 1}}});
  const Pixel blue{28, 92, 160}, orange{226, 112, 28};
  CHECK(pixel(image, 448, 248) == blue);
  CHECK(pixel(image, 266, 156) == blue);
  CHECK(pixel(image, 630, 340) == blue);
  CHECK(pixel(image, 811, 249) == orange);
  CHECK(pixel(image, 300, 350) == Pixel{255, 255, 255});
  CHECK(draw_curves("loss", {{"train", {2, 1, 0}}, {"test", {0, 0, 1}}}).pixels == image.pixels);
}

TEST_CASE("curves of any values") {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr double infinity = std::numeric_limits<double>::infinity();
  CHECK(count_blue(draw_curves("", {})) == 0);
  CHECK(count_blue(draw_curves("", {{"a", {}}})) == 0);
  CHECK(count_blue(draw_curves("", {{"a", {nan, infinity, 1e300}}})) == 0);
  for (const std::vector<double>& values : {std::vector<double>{0},
                                            {5},
                                            {-3, -3},
                                            {1e-320},
                                            {1e29, -1e29},
                                            {1, 1 + 1e-15},
                                            {1e-9, 2e-9},
                                            {nan, 1, infinity, 2}})
    CHECK(count_blue(draw_curves("any", {{"a", values}})) > 10);
  const std::vector<double> whole{1, 2, 3, 4, 5}, gap{1, 2, nan, 4, 5};
  CHECK(count_blue(draw_curves("", {{"a", gap}})) <
        count_blue(draw_curves("", {{"a", whole}})) - 500);
  CHECK_NOTHROW(draw_curves("many", std::vector<Curve>(20, {"name", std::vector<double>(300, 1)})));
}
