#include "data/data_loader.h"

#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "autograd/check.h"
#include "autograd/operations.h"

namespace chalk {

Tensor Batch::floats(Device device) const {
  Tensor moved = images.to(device);
  if (!to_augment.empty()) moved = augment(moved, to_augment);
  return moved.is_floating() ? moved : moved.to(DType::float32) / 255.0;
}

Index image_memory() {
  const Index memory = Index{sysconf(_SC_PHYS_PAGES)} * Index{sysconf(_SC_PAGESIZE)};
  return std::min(Index{4} << 30, memory / 4);
}

DataLoader::DataLoader(std::vector<LabeledImage> images, const DataLoaderOptions& options)
    : images_(std::move(images)), options_(options), resized_(images_.size()) {
  check(options.batch_size > 0 && options.batches_ahead > 0, "DataLoader: batch_size is ",
        options.batch_size, " and batches_ahead ", options.batches_ahead, ", expected 1 or more");
  check(
      options.height > 0 && options.width > 0 && options.height <= kMaxImagePixels / options.width,
      "DataLoader: images cannot be resized to ", options.height, " x ", options.width);
  check(options.workers >= 0 && options.workers <= 1024, "DataLoader: workers is ", options.workers,
        ", expected 0 to 1024");
  for (int i = 0; i < options.workers; ++i)
    workers_.emplace_back([this](std::stop_token stop) { work(stop); });
}

Index DataLoader::batch_count() const {
  return image_count() / options_.batch_size + (image_count() % options_.batch_size > 0);
}

void DataLoader::start_epoch(std::uint64_t epoch, Index first_batch) {
  check(first_batch >= 0 && first_batch <= batch_count(), "DataLoader: an epoch has ",
        batch_count(), " batches, it cannot start at batch ", first_batch);
  std::unique_lock lock(mutex_);
  // What is left of an epoch under way: no image more is begun, those in work are waited for.
  for (Pending& pending : queue_)
    pending.count = pending.taken;
  batch_done_.wait(lock, [this] {
    return std::all_of(queue_.begin(), queue_.end(),
                       [](const Pending& pending) { return pending.done == pending.count; });
  });
  queue_.clear();

  const auto words = philox(options_.seed, epoch);
  stream_ = std::uint64_t{words[0]} << 32 | words[1];
  augmented_ = options_.augmentation && epoch >= options_.plain_epochs;
  order_.resize(images_.size());
  std::iota(order_.begin(), order_.end(), 0);
  if (options_.shuffle) {
    // Fisher-Yates: each place in turn draws from those not drawn yet.
    Generator random{stream_, 0};
    for (Index i = 0; i < image_count(); ++i) {
      const double left = static_cast<double>(image_count() - i);
      std::swap(order_[i], order_[i + static_cast<Index>(random.uniform() * left)]);
    }
  }
  queue_end_ = first_batch * options_.batch_size;
  fill_queue();
}

std::optional<Batch> DataLoader::next() {
  std::unique_lock lock(mutex_);
  check(order_.size() == images_.size(), "DataLoader: call start_epoch() before next()");
  if (queue_.empty()) return std::nullopt;
  Pending& front = queue_.front();
  while (front.done < front.count) {
    if (front.taken < front.count)
      prepare(lock, front);  // rather than wait
    else
      batch_done_.wait(lock);
  }
  Pending ready = std::move(front);
  queue_.pop_front();
  fill_queue();
  if (ready.error) std::rethrow_exception(ready.error);
  return std::move(ready.batch);
}

// Appends batches to the queue as long as they are wanted and there are any. Under the lock.
void DataLoader::fill_queue() {
  const auto wanted = static_cast<std::size_t>(workers_.empty() ? 1 : options_.batches_ahead);
  while (queue_.size() < wanted && queue_end_ < image_count()) {
    const Index count = std::min(options_.batch_size, image_count() - queue_end_);
    std::vector<std::int64_t> labels;
    for (Index i = queue_end_; i < queue_end_ + count; ++i)
      labels.push_back(images_[order_[i]].label);
    Tensor images({count, options_.height, options_.width, 3},
                  options_.bytes ? DType::uint8 : DType::float32);
    void* pixels = images.storage()->data();
    Batch batch{images, Tensor::from(labels, {count})};
    if (options_.bytes && augmented_) batch.to_augment.resize(count);
    queue_.push_back({batch, pixels, queue_end_, count});
    queue_end_ += count;
  }
  images_wait_.notify_all();
}

// What a worker does: images from the oldest batch that has any left, until it is told to stop.
void DataLoader::work(std::stop_token stop) {
  const auto has_images = [](const Pending& pending) { return pending.taken < pending.count; };
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    const auto oldest = std::find_if(queue_.begin(), queue_.end(), has_images);
    if (oldest != queue_.end())
      prepare(lock, *oldest);
    else
      images_wait_.wait(lock, stop,
                        [&] { return std::any_of(queue_.begin(), queue_.end(), has_images); });
  }
}

// Loads the next image of the batch. The lock is open meanwhile; the batch stays where it is, since
// it leaves the queue only when all its images are done.
void DataLoader::prepare(std::unique_lock<std::mutex>& lock, Pending& pending) {
  const Index i = pending.taken++;
  lock.unlock();
  std::exception_ptr error;
  try {
    load(order_[pending.first + i], pending, i);
  } catch (...) {
    error = std::current_exception();
  }
  lock.lock();
  if (error && (pending.failed < 0 || i < pending.failed)) {
    pending.failed = i;
    pending.error = error;
  }
  if (++pending.done == pending.count) batch_done_.notify_all();
}

// Reads (the first time) and resizes one image into place `i` of a batch, and augments it, or draws
// how Batch::floats() will. An epoch has each image once, so no two threads meet in resized_.
void DataLoader::load(Index image, Pending& pending, Index i) {
  const auto put = [this, pixels = pending.pixels,
                    begin = i * options_.height * options_.width * 3](const Image& x) {
    if (options_.bytes)
      std::copy(x.pixels.begin(), x.pixels.end(), static_cast<std::uint8_t*>(pixels) + begin);
    else
      image_to_floats(x, static_cast<float*>(pixels) + begin);
  };
  Image fresh;
  Image& kept = resized_[image];
  if (kept.pixels.empty()) {
    fresh = resize(read_image(images_[image].path), options_.height, options_.width);
    if (image < options_.memory_bytes / (options_.height * options_.width * 3))
      kept = std::move(fresh);
  }
  const Image& resized = kept.pixels.empty() ? fresh : kept;
  if (!augmented_) return put(resized);
  // The epoch's first numbers are for its order; image i has those from (i + 1) 2^32 on.
  Generator random{stream_, static_cast<std::uint64_t>(image + 1) << 32};
  const auto uniform = [&random] { return random.uniform(); };
  const AugmentParameters drawn = draw_augmentation(uniform, *options_.augmentation);
  if (!options_.bytes) return put(augment(resized, drawn));
  pending.batch.to_augment[i] = drawn;
  put(resized);
}

}  // namespace chalk
