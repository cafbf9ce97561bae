// Convolution weights in the form their rung reads (PackedWeights), kept from one evaluation to the
// next: at a batch of one, packing them costs as much as using them.
#pragma once

#include <map>
#include <memory>

#include "autograd/cpu/conv2d.h"
#include "autograd/tensor.h"

namespace chalk::cpu {

template <typename T>
class PackedCache {
 public:
  // Packs `weight`, unless that was done before and its elements have not changed since. The
  // reference is good until the next call.
  const PackedWeights<T>& get(const Conv2dSizes& sizes, const Tensor& weight, ConvRung rung) {
    if (rung == ConvRung::automatic) rung = choose_forward(sizes);
    std::erase_if(entries_, [](const auto& item) { return item.second.owner.expired(); });
    const std::shared_ptr<Storage>& storage = weight.storage();
    Entry& entry = entries_[storage.get()];
    const bool current = entry.owner.lock() == storage && entry.version == storage->version &&
                         entry.rung == rung && entry.groups == sizes.groups;
    if (!current)
      entry = {storage, storage->version, rung, sizes.groups,
               pack_weights(sizes, weight.data<T>(), rung)};
    return entry.packed;
  }

 private:
  struct Entry {
    std::weak_ptr<Storage> owner;  // tells whether an address means the same storage as before
    std::uint64_t version = 0;
    ConvRung rung = ConvRung::automatic;
    Index groups = 0;
    PackedWeights<T> packed;
  };
  std::map<const Storage*, Entry> entries_;
};

}  // namespace chalk::cpu
