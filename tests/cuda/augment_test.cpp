// Augmentation on the GPU: the CPU's bytes, for every step alone and for all of them together, and
// in the batches of a DataLoader.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "autograd/check.h"
#include "data/data_loader.h"
#include "tests/temporary_folder.h"

using namespace chalk;

namespace {

using Bytes = std::vector<std::uint8_t>;

// Every byte is as likely; grey pixels, black and white ones are among them, for their hues.
Bytes drawn_bytes(Index pixels, Generator& random) {
  Bytes bytes;
  for (Index i = 0; i < pixels; ++i) {
    const auto byte = [&] { return static_cast<std::uint8_t>(random.uniform() * 256); };
    const std::uint8_t grey = i % 16 == 3 ? 0 : i % 16 == 6 ? 255 : byte();
    for (int channel = 0; channel < 3; ++channel)
      bytes.push_back(i % 8 == 3 || i % 8 == 6 ? grey : byte());
  }
  return bytes;
}

Bytes augmented_on(Device device, const Tensor& images,
                   const std::vector<AugmentParameters>& parameters) {
  const Tensor result = augment(images.to(device), parameters);
  CHECK(result.device() == device);
  CHECK(result.shape() == images.shape());
  return result.to_vector<std::uint8_t>();
}

void check_equal(const std::vector<AugmentParameters>& parameters) {
  Generator random{5, 0};
  const auto count = static_cast<Index>(parameters.size());
  for (const Shape& size : {Shape{1, 1}, {1, 7}, {9, 1}, {16, 16}, {17, 31}, {37, 28}}) {
    const Index height = size[0], width = size[1];
    CAPTURE(height);
    CAPTURE(width);
    const Tensor images =
        Tensor::from(drawn_bytes(count * height * width, random), {count, height, width, 3});
    CHECK((augmented_on(Device::cuda, images, parameters) ==
           augmented_on(Device::cpu, images, parameters)));
  }
}

}  // namespace

TEST_CASE("each step of augmentation gives the CPU's bytes") {
  check_equal({{}, {.flip = true}});
  for (const double degrees : {0.3, -9.7, 45.0, 90.0, 180.0, -271.0, 1e6})
    check_equal({{.degrees = degrees}, {.flip = true, .degrees = degrees}});
  for (const float factor : {0.0f, 0.8f, 0.99f, 1.2f, 7.0f, -1.0f, 3e38f})
    check_equal({{.brightness = factor}, {.contrast = factor}, {.saturation = factor}});
  for (const double turn : {-0.5, -0.1, 0.003, 0.07, 0.5})
    check_equal({{.hue = turn}});
}

TEST_CASE("all steps in every order give the CPU's bytes") {
  Generator random{6, 0};
  std::vector<AugmentParameters> parameters;
  AugmentParameters orders;
  do {
    parameters.push_back(draw_augmentation([&random] { return random.uniform(); }));
    parameters.back().order = orders.order;
  } while (std::next_permutation(orders.order.begin(), orders.order.end()));
  REQUIRE(parameters.size() == 24);
  check_equal(parameters);
}

TEST_CASE("every hue of every colour of a cube is turned to the CPU's bytes") {
  Bytes colours;
  for (int i = 0; i < 32 * 32 * 32; ++i)
    for (const int channel : {i / 1024, i / 32 % 32, i % 32})
      colours.push_back(static_cast<std::uint8_t>(channel * 255 / 31));
  const Tensor images = Tensor::from(colours, {1, 128, 256, 3});
  for (const double turn : {-0.1, 0.1}) {
    const std::vector<AugmentParameters> parameters = {{.saturation = 1.2f, .hue = turn}};
    CHECK((augmented_on(Device::cuda, images, parameters) ==
           augmented_on(Device::cpu, images, parameters)));
  }
}

TEST_CASE("no images and images without pixels") {
  for (const Shape& shape : {Shape{0, 4, 4, 3}, {2, 0, 4, 3}, {2, 4, 0, 3}})
    CHECK(augmented_on(Device::cuda, Tensor(shape, DType::uint8),
                       std::vector<AugmentParameters>(static_cast<std::size_t>(shape[0])))
              .empty());
}

TEST_CASE("a loader's batches are augmented on the GPU to the CPU's floats") {
  const testing::TemporaryFolder folder;
  std::vector<LabeledImage> files;
  Generator random{7, 0};
  for (int i = 0; i < 7; ++i) {
    const Index height = 13 + i % 3, width = 11 + i % 4;
    files.push_back({folder / (std::to_string(i) + ".png"), i});
    write_png(files.back().path, {height, width, drawn_bytes(height * width, random)});
  }
  DataLoaderOptions options{.batch_size = 3,
                            .height = 15,
                            .width = 14,
                            .augmentation = Augmentation{},
                            .plain_epochs = 1,
                            .seed = 8};
  DataLoader floats(files, options);
  options.bytes = true;
  DataLoader bytes(files, options);
  for (const std::uint64_t epoch : {0, 1, 2}) {
    floats.start_epoch(epoch);
    bytes.start_epoch(epoch);
    while (const std::optional<Batch> expected = floats.next()) {
      const Batch batch = bytes.next().value();
      CHECK(batch.labels.to_vector<Index>() == expected->labels.to_vector<Index>());
      CHECK((batch.floats(Device::cuda).to_vector<float>() == expected->images.to_vector<float>()));
    }
    CHECK(!bytes.next());
  }
}
