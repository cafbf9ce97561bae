// Convolution weights in the form their rung reads (PackedWeights), kept from one evaluation to the
// next: at a batch of one, packing them costs as much as using them.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "autograd/cpu/conv2d.h"
#include "autograd/tensor.h"

namespace chalk::cpu {

// Serves any number of threads: what get() returned lives as long as its caller needs it.
template <typename T>
class PackedCache {
 public:
  // Packs `weight`, unless that was done before for the same sizes but the batch, and its elements
  // have not changed since.
  std::shared_ptr<const PackedWeights<T>> get(Conv2dSizes sizes, const Tensor& weight,
                                              ConvRung rung) {
    sizes.batch = 0;
    const std::lock_guard lock(mutex_);
    std::erase_if(entries_, [](const auto& item) { return item.second.owner.expired(); });
    const std::shared_ptr<Storage>& storage = weight.storage();
    Entry& entry = entries_[storage.get()];
    const bool current = entry.owner.lock() == storage && entry.version == storage->version &&
                         entry.rung == rung && entry.sizes == sizes;
    if (!current)
      entry = {storage, storage->version, rung, sizes,
               std::make_shared<PackedWeights<T>>(pack_weights(sizes, weight.data<T>(), rung))};
    return entry.packed;
  }

 private:
  struct Entry {
    std::weak_ptr<Storage> owner;  // tells whether an address means the same storage as before
    std::uint64_t version = 0;
    ConvRung rung = ConvRung::automatic;  // that was asked for
    Conv2dSizes sizes{};
    std::shared_ptr<const PackedWeights<T>> packed;
  };
  std::mutex mutex_;
  std::map<const Storage*, Entry> entries_;
};

}  // namespace chalk::cpu
