// chalk's side of bench.py: reads one task a line, runs it once, answers with its milliseconds.
//
//   train BATCH SIZE       one train step of the FER network on random images
//   evaluate BATCH SIZE    one forward pass in evaluation mode
//   epoch FOLDER IMAGES    train on the first images of a folder of JPEG files, augmented
//   resize FOLDER IMAGES   images in memory to 224 x 224 floats, on one thread
//   augment FOLDER IMAGES  the same with augmentation
//   memory                 the peak of resident memory so far, in MB
#include <sys/resource.h>

#include <chrono>
#include <iostream>
#include <map>
#include <string>

#include "autograd/node.h"
#include "data/data_loader.h"
#include "data/raf_db.h"
#include "examples/fer/fer_net.h"
#include "optim/optimizer.h"

using namespace chalk;

namespace {

struct Bench {
  FerNet network;
  AdamW optimizer{network.parameters()};
  std::map<std::pair<Index, Index>, Tensor> images;  // by batch and size

  const Tensor& images_of(Index batch, Index size) {
    Tensor& tensor = images[{batch, size}];
    if (!tensor.defined()) tensor = Tensor::rand({batch, size, size, 3});
    return tensor;
  }

  void step(const Tensor& batch, const Tensor& labels) {
    optimizer.zero_grad();
    cross_entropy(network(batch), labels).backward();
    optimizer.step();
  }

  void train(Index batch, Index size) {
    std::vector<std::int64_t> labels;
    for (Index i = 0; i < batch; ++i)
      labels.push_back(i % 7);
    network.train();
    step(images_of(batch, size), Tensor::from(labels, {batch}));
  }

  void evaluate(Index batch, Index size) {
    NoGrad no_grad;
    network.eval();
    network(images_of(batch, size));
  }

  void epoch(const std::string& folder, std::size_t count) {
    std::vector<LabeledImage> files = find_faces(folder).train;
    if (files.size() > count) files.resize(count);
    DataLoader loader(files, {.batch_size = 32, .augmentation = Augmentation{}, .workers = 2});
    network.train();
    loader.start_epoch(0);
    while (std::optional<Batch> batch = loader.next())
      step(batch->images, batch->labels);
  }
};

// The images are read once; what is timed is what happens to each of them in every epoch.
double transform(const std::string& folder, std::size_t count, bool augmented) {
  std::vector<Image> images;
  for (const LabeledImage& file : find_faces(folder).train)
    if (images.size() < count) images.push_back(read_image(file.path));
  Generator generator{1, 0};
  std::vector<float> floats(3 * 224 * 224);
  const auto start = std::chrono::steady_clock::now();
  for (const Image& image : images) {
    Image resized = resize(image, 224, 224);
    if (augmented)
      resized = augment(resized, draw_augmentation([&] { return generator.uniform(); }));
    image_to_floats(resized, floats.data());
  }
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

double peak_megabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

}  // namespace

int main() {
  Bench bench;
  std::string task, folder;
  Index batch = 0, size = 0;
  while (std::cin >> task) {
    if (task == "train" || task == "evaluate") std::cin >> batch >> size;
    if (task == "epoch" || task == "resize" || task == "augment") std::cin >> folder >> size;
    const auto start = std::chrono::steady_clock::now();
    if (task == "train") bench.train(batch, size);
    if (task == "evaluate") bench.evaluate(batch, size);
    if (task == "epoch") bench.epoch(folder, static_cast<std::size_t>(size));
    const std::chrono::duration<double, std::milli> elapsed =
        std::chrono::steady_clock::now() - start;
    double answer = elapsed.count();
    if (task == "memory") answer = peak_megabytes();
    if (task == "resize" || task == "augment")
      answer = transform(folder, static_cast<std::size_t>(size), task == "augment");
    std::cout << answer << std::endl;
  }
}
