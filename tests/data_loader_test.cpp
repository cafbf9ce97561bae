#include "data/data_loader.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "autograd/check.h"
#include "autograd/random.h"
#include "tests/temporary_folder.h"

using namespace chalk;

namespace {

// A folder of small random pictures of different sizes, labelled by their number.
struct Pictures {
  testing::TemporaryFolder folder;
  std::vector<LabeledImage> images;

  explicit Pictures(int count) {
    Generator random{3, 0};
    for (int i = 0; i < count; ++i) {
      Image image{5 + i % 3, 4 + i % 5, {}};
      for (Index j = 0; j < image.height * image.width * 3; ++j)
        image.pixels.push_back(static_cast<std::uint8_t>(random.uniform() * 256));
      images.push_back({folder / (std::to_string(i) + ".png"), i});
      write_png(images.back().path, image);
    }
  }
};

struct Contents {
  std::vector<float> images;
  std::vector<std::int64_t> labels;
  bool operator==(const Contents&) const = default;
};

// All batches of an epoch from one on.
std::vector<Contents> epoch(DataLoader& loader, std::uint64_t number, Index first_batch = 0) {
  std::vector<Contents> batches;
  loader.start_epoch(number, first_batch);
  while (const auto batch = loader.next()) {
    const float* pixels = batch->images.data<float>();
    const std::int64_t* labels = batch->labels.data<std::int64_t>();
    batches.push_back(
        {{pixels, pixels + batch->images.numel()}, {labels, labels + batch->labels.numel()}});
  }
  CHECK(!loader.next());
  return batches;
}

std::vector<std::int64_t> labels_of(const std::vector<Contents>& batches) {
  std::vector<std::int64_t> labels;
  for (const Contents& batch : batches)
    labels.insert(labels.end(), batch.labels.begin(), batch.labels.end());
  return labels;
}

const DataLoaderOptions kSmall{.batch_size = 4, .height = 6, .width = 5, .seed = 7, .workers = 0};

DataLoaderOptions augmented(int workers) {
  DataLoaderOptions options = kSmall;
  options.augmentation = Augmentation{};
  options.workers = workers;
  return options;
}

}  // namespace

TEST_CASE("in order and without augmentation a batch is the resized files") {
  const Pictures pictures(10);
  for (const int workers : {0, 3}) {
    DataLoaderOptions options = kSmall;
    options.shuffle = false;
    options.workers = workers;
    DataLoader loader(pictures.images, options);
    CHECK(loader.image_count() == 10);
    CHECK(loader.batch_count() == 3);
    loader.start_epoch(0);
    Index position = 0;
    for (const Index count : {4, 4, 2}) {
      const Batch batch = loader.next().value();
      CHECK(batch.images.shape() == Shape{count, 6, 5, 3});
      CHECK(batch.labels.shape() == Shape{count});
      for (Index i = 0; i < count; ++i, ++position) {
        CHECK(batch.labels.data<std::int64_t>()[i] == position);
        const auto& file = pictures.images[static_cast<std::size_t>(position)];
        std::vector<float> expected(6 * 5 * 3);
        image_to_floats(resize(read_image(file.path), 6, 5), expected.data());
        CHECK(std::equal(expected.begin(), expected.end(), batch.images.data<float>() + i * 90));
      }
    }
    CHECK(!loader.next());
  }
}

TEST_CASE("batches of bytes become the same floats, to the bit, on every device") {
  const Pictures pictures(10);
  DataLoaderOptions options = augmented(2);
  DataLoader floats(pictures.images, options);
  options.bytes = true;
  DataLoader bytes(pictures.images, options);
  for (DataLoader* loader : {&floats, &bytes})
    loader->start_epoch(0);
  for (int i = 0; i < 3; ++i) {
    const Batch expected = floats.next().value(), batch = bytes.next().value();
    CHECK(batch.images.dtype() == DType::uint8);
    CHECK(batch.labels.to_vector<Index>() == expected.labels.to_vector<Index>());
    for (const Device device : {Device::cpu, Device::cuda}) {
      const Tensor images = batch.floats(device);
      CHECK(images.device() == device);
      CHECK(images.to_vector<float>() == expected.images.to_vector<float>());
    }
  }
}

TEST_CASE("the number of workers changes nothing") {
  const Pictures pictures(23);
  DataLoader alone(pictures.images, augmented(0));
  for (const int workers : {1, 2, 5}) {
    DataLoader loader(pictures.images, augmented(workers));
    for (const std::uint64_t number : {0, 1, 2})
      CHECK(epoch(loader, number) == epoch(alone, number));
  }
}

TEST_CASE("an epoch has every image once, in an order of its own that the seed decides") {
  const Pictures pictures(23);
  DataLoader loader(pictures.images, augmented(2));
  const auto first = epoch(loader, 0), second = epoch(loader, 1);
  for (const auto& batches : {first, second}) {
    CHECK(batches.size() == 6);
    CHECK(batches.back().labels.size() == 3);
    const auto labels = labels_of(batches);
    CHECK(std::set(labels.begin(), labels.end()).size() == 23);
    CHECK(!std::is_sorted(labels.begin(), labels.end()));
  }
  CHECK(labels_of(first) != labels_of(second));
  CHECK(epoch(loader, 0) == first);

  DataLoaderOptions other_seed = augmented(2);
  other_seed.seed = 8;
  DataLoader other(pictures.images, other_seed);
  CHECK(labels_of(epoch(other, 0)) != labels_of(first));
}

TEST_CASE("every order is as likely") {
  const Pictures pictures(4);
  DataLoader loader(pictures.images, kSmall);
  std::map<std::vector<std::int64_t>, int> counts;
  for (std::uint64_t number = 0; number < 2400; ++number)
    ++counts[labels_of(epoch(loader, number))];
  CHECK(counts.size() == 24);
  // 100 each; sum of (count - 100)^2 / 100 is chi-squared with 23 degrees: below 50 but for 0.1 %.
  double chi_squared = 0;
  for (const auto& [order, count] : counts)
    chi_squared += (count - 100) * (count - 100) / 100.0;
  CHECK(chi_squared < 50);
}

TEST_CASE("an image is augmented anew in every epoch, and by itself") {
  const Pictures pictures(4);
  DataLoaderOptions options = augmented(0);
  options.shuffle = false;
  DataLoader loader(pictures.images, options);
  const auto first = epoch(loader, 0)[0].images, second = epoch(loader, 1)[0].images;
  CHECK(first != second);

  // The same file four times: four pictures.
  DataLoader same({4, pictures.images[0]}, options);
  const auto images = epoch(same, 0)[0].images;
  for (int i = 1; i < 4; ++i)
    CHECK(!std::equal(images.begin(), images.begin() + 90, images.begin() + i * 90));
}

TEST_CASE("each image has random numbers of its own, wherever it stands in the epoch") {
  const Pictures pictures(9);
  DataLoaderOptions options = augmented(0);
  options.batch_size = 9;
  DataLoader loader(pictures.images, options);
  const Contents batch = epoch(loader, 3)[0];
  const auto words = philox(options.seed, 3);
  for (std::size_t i = 0; i < 9; ++i) {
    const auto image = static_cast<std::size_t>(batch.labels[i]);
    Generator random{std::uint64_t{words[0]} << 32 | words[1], (image + 1) << 32};
    const auto parameters = draw_augmentation([&random] { return random.uniform(); });
    const Image resized = resize(read_image(pictures.images[image].path), 6, 5);
    std::vector<float> expected(90);
    image_to_floats(augment(resized, parameters), expected.data());
    CHECK(std::equal(expected.begin(), expected.end(), batch.images.begin() + 90 * i));
  }
}

TEST_CASE("an epoch that starts in its middle goes on as the whole one") {
  const Pictures pictures(23);
  for (const int workers : {0, 2}) {
    DataLoader loader(pictures.images, augmented(workers));
    const auto whole = epoch(loader, 5);
    for (Index first = 0; first <= 6; ++first) {
      DataLoader resumed(pictures.images, augmented(workers));
      const std::vector<Contents> rest(whole.begin() + first, whole.end());
      CHECK(epoch(resumed, 5, first) == rest);
    }
    CHECK_THROWS_WITH_AS(loader.start_epoch(5, 7), doctest::Contains("has 6 batches"), Error);
    CHECK_THROWS_AS(loader.start_epoch(5, -1), Error);
  }
}

TEST_CASE("an epoch can be given up, and a loader dropped, at any point") {
  const Pictures pictures(40);
  DataLoader alone(pictures.images, augmented(0));
  const auto expected = epoch(alone, 9);
  for (int taken = 0; taken < 6; ++taken) {
    DataLoader loader(pictures.images, augmented(3));
    loader.start_epoch(1);
    for (int i = 0; i < taken; ++i)
      CHECK(loader.next());
    CHECK(epoch(loader, 9) == expected);
    loader.start_epoch(2);
    for (int i = 0; i < taken; ++i)
      CHECK(loader.next());
  }
}

TEST_CASE("after the first epoch images come from memory, as far as it is allowed") {
  for (const int workers : {0, 2}) {
    DataLoaderOptions options = augmented(workers);
    std::vector<Contents> expected;
    {
      const Pictures pictures(8);
      DataLoader loader(pictures.images, options);
      epoch(loader, 0);
      expected = epoch(loader, 1);
      std::filesystem::remove_all(pictures.folder.path);
      CHECK(epoch(loader, 1) == expected);
    }
    const Pictures pictures(8);
    options.memory_bytes = 3 * 90;  // three images
    options.batch_size = 1;
    options.shuffle = false;
    DataLoader loader(pictures.images, options);
    epoch(loader, 0);
    std::filesystem::remove_all(pictures.folder.path);
    loader.start_epoch(1);
    for (int i = 0; i < 3; ++i)
      CHECK(loader.next());
    for (int i = 3; i < 8; ++i)
      CHECK_THROWS_AS(loader.next(), Error);
    CHECK(!loader.next());
  }
}

TEST_CASE("the first epochs may be plain, and leave their images in memory for the others") {
  const Pictures pictures(8);
  DataLoader plain(pictures.images, kSmall), all_augmented(pictures.images, augmented(0));
  DataLoaderOptions options = augmented(2);
  options.plain_epochs = 2;
  DataLoader loader(pictures.images, options);
  for (const std::uint64_t number : {0, 1})
    CHECK(epoch(loader, number) == epoch(plain, number));
  const auto expected = epoch(all_augmented, 2);
  std::filesystem::remove_all(pictures.folder.path);
  CHECK(epoch(loader, 2) == expected);
}

TEST_CASE("images take a part of the memory") {
  CHECK(image_memory() > 0);
  CHECK(image_memory() <= Index{4} << 30);
}

TEST_CASE("a damaged file is named, and nothing hangs") {
  const Pictures pictures(20);
  write_file(pictures.images[9].path, "no picture");
  std::filesystem::remove(pictures.images[10].path);
  for (const int workers : {0, 1, 4}) {
    DataLoaderOptions options = augmented(workers);
    options.shuffle = false;
    DataLoader loader(pictures.images, options);
    for (int repeat = 0; repeat < 2; ++repeat) {
      loader.start_epoch(0);
      CHECK(loader.next());
      CHECK(loader.next());
      // Both failed; the error is that of the first, whoever came upon it first.
      CHECK_THROWS_WITH_AS(loader.next(), doctest::Contains("9.png"), Error);
      CHECK(loader.next());
      CHECK(loader.next());
      CHECK(!loader.next());
    }
  }
}

TEST_CASE("an empty data set has empty epochs") {
  DataLoader loader({}, augmented(2));
  CHECK(loader.batch_count() == 0);
  CHECK(epoch(loader, 0).empty());
}

TEST_CASE("options that make no sense") {
  const Pictures pictures(1);
  const auto with = [&](auto set) {
    DataLoaderOptions options = kSmall;
    set(options);
    return DataLoader(pictures.images, options).image_count();
  };
  using Options = DataLoaderOptions;
  CHECK_THROWS_AS(with([](Options& o) { o.batch_size = 0; }), Error);
  CHECK_THROWS_AS(with([](Options& o) { o.batches_ahead = 0; }), Error);
  CHECK_THROWS_AS(with([](Options& o) { o.height = 0; }), Error);
  CHECK_THROWS_AS(with([](Options& o) { o.width = kMaxImagePixels; }), Error);
  CHECK_THROWS_AS(with([](Options& o) { o.workers = -1; }), Error);
  DataLoader loader(pictures.images, kSmall);
  CHECK_THROWS_WITH_AS(loader.next(), doctest::Contains("start_epoch() before next()"), Error);
}
