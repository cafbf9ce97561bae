// The data set of drawn faces: which labels, which files, all or nothing.
#include "examples/fer/draw.h"

#include <algorithm>
#include <array>
#include <exception>
#include <filesystem>

#include "autograd/check.h"
#include "autograd/random.h"
#include "data/files.h"

namespace chalk {

static constexpr Index kRafDbTrainImages[kExpressions] = {1290, 281, 717, 4772, 1982, 705, 2524};

std::vector<int> draw_labels(Index count) {
  Index total = 0;
  for (Index images : kRafDbTrainImages)
    total += images;
  std::vector<int> labels;
  std::array<Index, kExpressions> given = {};
  while (static_cast<Index>(labels.size()) < count) {  // next comes the label that is owed most
    int next = 0;
    auto owed = [&](int k) {
      return kRafDbTrainImages[k] * static_cast<Index>(labels.size() + 1) - given[k] * total;
    };
    for (int k = 1; k < kExpressions; k++)
      if (owed(k) > owed(next)) next = k;
    labels.push_back(next);
    given[next]++;
  }
  return labels;
}

static std::uint64_t image_seed(std::uint64_t seed, bool test, Index number) {
  const auto word = philox(seed, static_cast<std::uint64_t>(number) * 2 + test);
  return std::uint64_t{word[0]} << 32 | word[1];
}

static void draw_split(const std::string& directory, bool test, Index count, std::uint64_t seed) {
  const std::string split = test ? "test" : "train";
  const std::vector<int> labels = draw_labels(count);
  std::vector<std::string> names;
  std::string csv = "image,label\n";
  for (Index i = 0; i < count; i++) {
    const std::string number = std::to_string(i + 1);
    const size_t zeros = number.size() < 5 ? 5 - number.size() : 0;
    names.push_back(split + "_" + std::string(zeros, '0') + number + "_aligned.jpg");
    csv += names.back() + "," + std::to_string(labels[i] + 1) + "\n";
  }
  for (int label = 1; label <= kExpressions; label++)
    std::filesystem::create_directories(directory + "/DATASET/" + split + "/" +
                                        std::to_string(label));
  write_file(directory + "/" + split + "_labels.csv", csv);
  std::exception_ptr error;  // an exception must not leave the parallel loop
#pragma omp parallel for schedule(dynamic, 8)
  for (Index i = 0; i < count; i++) {
    try {
      const std::string folder =
          directory + "/DATASET/" + split + "/" + std::to_string(labels[i] + 1);
      write_jpeg(folder + "/" + names[i], draw_face(labels[i], image_seed(seed, test, i)), 92);
    } catch (...) {
#pragma omp critical
      error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

void draw_dataset(const DrawOptions& options) {
  constexpr Index kMost = 1000000;
  for (Index count : {options.train_images, options.test_images})
    check(count > 0 && count <= kMost, "draw_dataset: asked for ", options.train_images,
          " train and ", options.test_images, " test images, expected 1 to ", kMost, " of each");
  std::error_code unknown;
  check(!std::filesystem::exists(options.directory, unknown), "draw_dataset: ", options.directory,
        " exists already; remove it or name another folder");
  write_folder(options.directory, [&options](const std::string& unfinished) {
    draw_split(unfinished, false, options.train_images, options.seed);
    draw_split(unfinished, true, options.test_images, options.seed);
  });
}

Image contact_sheet(Index columns, std::uint64_t seed) {
  check(columns > 0 && columns <= 1000, "contact_sheet: ", columns, " columns, expected 1 to 1000");
  const Index width = columns * kFaceSize, height = kExpressions * kFaceSize;
  Image sheet{height, width, std::vector<std::uint8_t>(height * width * 3)};
  for (Index row = 0; row < kExpressions; row++) {
    for (Index column = 0; column < columns; column++) {
      const Image face = draw_face(static_cast<int>(row), image_seed(seed, false, column));
      for (Index y = 0; y < kFaceSize; y++)
        std::copy_n(&face.pixels[y * kFaceSize * 3], kFaceSize * 3,
                    &sheet.pixels[((row * kFaceSize + y) * width + column * kFaceSize) * 3]);
    }
  }
  return sheet;
}

}  // namespace chalk
