// DataLoader: an epoch of labelled image files in batches, prepared ahead of the training step.
//
//   DataLoader loader(images, {.batch_size = 32, .augmentation = Augmentation{}, .workers = 2});
//   loader.start_epoch(0);
//   while (std::optional<Batch> batch = loader.next()) train(batch->images, batch->labels);
//
// Which images form a batch, and how each is augmented, follows from (seed, epoch, image) alone:
// the number of workers, and whether the epoch was begun in its middle, change no bit.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <vector>

#include "autograd/tensor.h"
#include "data/image.h"
#include "data/raf_db.h"
#include "data/transforms.h"

namespace chalk {

struct Batch {
  Tensor images;  // [batch, height, width, 3]: float32 in [0, 1], or uint8 if so asked for
  Tensor labels;  // int64 [batch]
  std::vector<AugmentParameters> to_augment = {};  // what floats() has to do to each uint8 image

  // The images on a device, augmented, as float32 in [0, 1] in any case.
  Tensor floats(Device device) const;
};

// 4 GiB, or a quarter of the machine's memory where that is less.
Index image_memory();

struct DataLoaderOptions {
  Index batch_size = 32;  // the last batch of an epoch has what is left
  Index height = 224, width = 224;
  bool shuffle = true;
  std::optional<Augmentation> augmentation = std::nullopt;
  std::uint64_t plain_epochs = 0;  // the first epochs, which are not augmented
  std::uint64_t seed = 0;
  int workers = 2;  // threads that prepare batches; with 0 next() does so
  Index batches_ahead = 4;
  bool bytes = false;  // batches of uint8, for floats() to augment: a quarter to copy
  Index memory_bytes = image_memory();  // resized images up to this size stay for later epochs
};

// Owns its threads; all functions are called from one thread.
class DataLoader {
 public:
  DataLoader(std::vector<LabeledImage> images, const DataLoaderOptions& options);

  Index image_count() const { return static_cast<Index>(images_.size()); }
  Index batch_count() const;  // in an epoch

  // Begins an epoch at its batch `first_batch`; one that is under way is given up.
  void start_epoch(std::uint64_t epoch, Index first_batch = 0);

  // The next batch, or nothing at the end of the epoch. Throws what reading one of its images
  // threw, which names the file; the call after that goes on with the next batch.
  std::optional<Batch> next();

 private:
  // A batch in preparation: images order_[first + i] for 0 <= i < count.
  struct Pending {
    Batch batch;
    void* pixels;  // of batch.images
    Index first, count;
    Index taken = 0, done = 0;           // how many of them workers have begun and ended
    Index failed = -1;                   // the first that failed, -1: none
    std::exception_ptr error = nullptr;  // what it threw
  };

  void fill_queue();
  void work(std::stop_token stop);
  void prepare(std::unique_lock<std::mutex>& lock, Pending& pending);
  void load(Index image, Pending& pending, Index i);

  const std::vector<LabeledImage> images_;
  const DataLoaderOptions options_;
  std::vector<Image> resized_;  // by image; empty until it is read, or for ever if memory is short

  // Of the epoch. Workers read them without the lock: they change only while nobody works.
  std::uint64_t stream_ = 0;  // the seed of the epoch's random numbers
  bool augmented_ = false;
  std::vector<Index> order_;

  std::mutex mutex_;     // guards what follows
  Index queue_end_ = 0;  // the batches from here on in order_ are not in the queue yet
  std::deque<Pending> queue_;
  std::condition_variable_any images_wait_;  // there are images to be taken
  std::condition_variable_any batch_done_;   // the last image of a batch is done

  std::vector<std::jthread> workers_;  // last: they end before what they use does
};

}  // namespace chalk
