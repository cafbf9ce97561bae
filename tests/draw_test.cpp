// The drawn faces: reproducible, in RAF-DB's proportions and layout, all or nothing.
#include "examples/fer/draw.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "autograd/check.h"
#include "examples/fer/canvas.h"
#include "tests/temporary_folder.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace chalk {
namespace {

using testing::TemporaryFolder;
namespace fs = std::filesystem;

// Relative path and bytes of every file, in order.
std::vector<std::pair<std::string, std::vector<std::uint8_t>>> all_files(const std::string& root) {
  std::vector<std::pair<std::string, std::vector<std::uint8_t>>> files;
  for (const auto& entry : fs::recursive_directory_iterator(root))
    if (entry.is_regular_file())
      files.emplace_back(fs::relative(entry.path(), root).string(), read_file(entry.path()));
  std::sort(files.begin(), files.end());
  return files;
}

double mean_difference(const Image& a, const Image& b) {
  REQUIRE(a.pixels.size() == b.pixels.size());
  double sum = 0;
  for (size_t i = 0; i < a.pixels.size(); i++)
    sum += std::abs(int{a.pixels[i]} - int{b.pixels[i]});
  return sum / static_cast<double>(a.pixels.size());
}

float area(const Mask& mask) {
  float sum = 0;
  for (float share : mask.coverage)
    sum += share;
  return sum;
}

// Row 3, columns 0 to 9, of a path on a canvas of 10 x 10.
std::vector<float> row3(const Path& path) {
  const Mask mask = Canvas(10).cover(path);
  return {mask.coverage.begin() + 30, mask.coverage.begin() + 40};
}

}  // namespace

TEST_CASE("canvas: a pixel's coverage is its exact share of the path") {
  const auto near = [](std::vector<float> values, const std::vector<float>& expected) {
    for (size_t i = 0; i < 10; i++)
      CHECK(values[i] == doctest::Approx(expected[i]).epsilon(1e-3).scale(1));
  };
  // x from 2.25 to 5.5, over the whole of row 3
  near(row3({{2.25f, 1}, {5.5f, 1}, {5.5f, 8}, {2.25f, 8}}), {0, 0, .75f, 1, 1, .5f, 0, 0, 0, 0});
  // only the lower half of row 3, drawn the other way round
  near(row3({{2, 3.5f}, {2, 8}, {5, 8}, {5, 3.5f}}), {0, 0, .5f, .5f, .5f, 0, 0, 0, 0, 0});
  // larger than the canvas on every side
  near(row3({{-50, -50}, {50, -50}, {50, 50}, {-50, 50}}), {1, 1, 1, 1, 1, 1, 1, 1, 1, 1});
  // a diagonal through three pixels: from (2, 3) to (5, 4), everything to its right up to 8
  near(row3({{2, 3}, {8, 3}, {8, 4}, {5, 4}}), {0, 0, 1 / 6.f, .5f, 5 / 6.f, 1, 1, 1, 0, 0});
  // left, right, above: nothing
  CHECK(area(Canvas(10).cover({{-9, 2}, {-2, 2}, {-2, 7}})) < 1e-5f);
  CHECK(area(Canvas(10).cover({{12, 2}, {19, 2}, {19, 7}})) == 0);
  CHECK(area(Canvas(10).cover({{2, -9}, {8, -9}, {8, -1}})) == 0);
}

TEST_CASE("canvas: areas, strokes, intersections") {
  const Canvas canvas(40);
  const Mask disc = canvas.cover(ellipse({20, 20}, 10, 10));
  CHECK(area(disc) == doctest::Approx(32 * 50 * std::sin(3.14159265 / 16)).epsilon(1e-3));
  const Mask half = canvas.cover({{20, 0}, {40, 0}, {40, 40}, {20, 40}});
  CHECK(area(intersect(disc, half)) == doctest::Approx(area(disc) / 2).epsilon(1e-3));
  CHECK(area(subtract(disc, half)) == doctest::Approx(area(disc) / 2).epsilon(1e-3));
  // a straight brush 4 wide and 20 long with round ends
  const float brush = area(canvas.cover(stroke({{10, 20}, {20, 20}, {30, 20}}, 4, 0)));
  CHECK(brush == doctest::Approx(80 + 3.14159 * 4).epsilon(0.03));
  // a smooth closed curve passes through its points and stays a closed loop
  const Path loop = smooth({{0, 0}, {10, 0}, {10, 10}, {0, 10}}, true);
  CHECK(loop.size() == 24);
  CHECK(loop[6].x == 10);
  CHECK(loop[6].y == 0);
}

TEST_CASE("a face depends on its expression and its seed alone") {
  const Image face = draw_face(3, 42);
  CHECK(face.height == 100);
  CHECK(face.width == 100);
  CHECK(face.pixels == draw_face(3, 42).pixels);
  CHECK(face.pixels != draw_face(3, 43).pixels);
  CHECK_THROWS_AS(draw_face(-1, 1), Error);
  CHECK_THROWS_AS(draw_face(7, 1), Error);
}

TEST_CASE("two expressions of a person differ, and only in the face") {
  for (std::uint64_t seed = 1; seed <= 20; seed++) {
    std::vector<Image> faces;
    for (int expression = 0; expression < kExpressions; expression++)
      faces.push_back(draw_face(expression, seed));
    for (int a = 0; a < kExpressions; a++) {
      for (int b = 0; b < a; b++) {
        CAPTURE(seed);
        CAPTURE(a);
        CAPTURE(b);
        CHECK(mean_difference(faces[a], faces[b]) > 1.0);
        for (Index i = 0; i < 3 * 3; i++)  // the corner is the background of both
          CHECK(faces[a].pixels[i] == faces[b].pixels[i]);
      }
    }
  }
}

TEST_CASE("labels are in RAF-DB's proportions, from the beginning on") {
  const Index raf_db[kExpressions] = {1290, 281, 717, 4772, 1982, 705, 2524};
  const std::vector<int> labels = draw_labels(12271);
  for (int k = 0; k < kExpressions; k++)
    CHECK(std::count(labels.begin(), labels.end(), k) == raf_db[k]);
  for (Index count : {100, 304, 1216}) {
    for (int k = 0; k < kExpressions; k++) {
      const double expected = static_cast<double>(raf_db[k] * count) / 12271;
      const auto given = std::count(labels.begin(), labels.begin() + count, k);
      CHECK(std::abs(static_cast<double>(given) - expected) < 1.5);
    }
  }
  const std::vector<int> few = draw_labels(304);
  CHECK(std::equal(few.begin(), few.end(), labels.begin()));
}

TEST_CASE("a drawn data set is complete, in RAF-DB's layout, the same whoever draws it") {
  const TemporaryFolder folder;
  const std::string one = folder / "one", two = folder / "deep/two";
  draw_dataset({.directory = one, .train_images = 40, .test_images = 12, .seed = 9});
#ifdef _OPENMP
  const int threads = omp_get_max_threads();
  omp_set_num_threads(threads == 1 ? 3 : 1);
#endif
  draw_dataset({.directory = two, .train_images = 40, .test_images = 12, .seed = 9});
#ifdef _OPENMP
  omp_set_num_threads(threads);
#endif
  const auto files = all_files(one);
  CHECK(files.size() == 40 + 12 + 2);
  CHECK(files == all_files(two));

  std::ifstream csv(one + "/train_labels.csv");
  std::string line;
  std::getline(csv, line);
  CHECK(line == "image,label");
  const std::vector<int> labels = draw_labels(40);
  std::set<std::string> names;
  for (Index i = 0; i < 40; i++) {
    REQUIRE(std::getline(csv, line));
    const std::string name = line.substr(0, line.find(',')), label = line.substr(name.size() + 1);
    CHECK(label == std::to_string(labels[i] + 1));
    names.insert(name);
    const Image image = read_image(one + "/DATASET/train/" + label + "/" + name);
    CHECK(image.height == 100);
    CHECK(image.width == 100);
  }
  CHECK(names.size() == 40);
  CHECK(names.count("train_00001_aligned.jpg") == 1);
  CHECK_FALSE(std::getline(csv, line));
  CHECK(fs::exists(one + "/DATASET/test/2"));  // a folder per label even where none is drawn

  // Image i does not depend on how many there are; another seed draws others.
  draw_dataset({.directory = folder / "three", .train_images = 3, .test_images = 1, .seed = 9});
  draw_dataset({.directory = folder / "four", .train_images = 3, .test_images = 1, .seed = 8});
  const std::string first = "/DATASET/train/4/train_00001_aligned.jpg";
  CHECK(read_file(folder / "three" + first) == read_file(one + first));
  CHECK(read_file(folder / "four" + first) != read_file(one + first));
}

TEST_CASE("a data set that cannot be drawn leaves nothing behind and says why") {
  const TemporaryFolder folder;
  const auto message = [](const DrawOptions& options) -> std::string {
    try {
      draw_dataset(options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  write_file(folder / "file", "not a folder");
  const std::string below_file = folder / "file/faces";
  CHECK(message({.directory = below_file, .train_images = 2, .test_images = 1}).find(below_file) !=
        std::string::npos);
  const std::string there =
      message({.directory = folder.path, .train_images = 2, .test_images = 1});
  CHECK(there.find("exists already") != std::string::npos);
  CHECK(message({.directory = "", .train_images = 2, .test_images = 1}) != "");
  CHECK(message({.directory = folder / "none", .train_images = 0}) != "");
  CHECK(all_files(folder.path).size() == 1);
}

TEST_CASE("contact sheet: a row per expression, a column per person") {
  const Image sheet = contact_sheet(2, 5);
  CHECK(sheet.height == 700);
  CHECK(sheet.width == 200);
  CHECK(sheet.pixels == contact_sheet(2, 5).pixels);
  CHECK_THROWS_AS(contact_sheet(0, 5), Error);
}

}  // namespace chalk
