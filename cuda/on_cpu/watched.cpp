#include "cuda/on_cpu/watched.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "cuda/on_cpu/runtime.h"

namespace chalk::cuda::on_cpu {

void note_access(const void* address, Way way) {
  if (!on_access || !block().in_memory(address)) return;
  const auto number = [](const uint3& index, const dim3& shape) {
    return (static_cast<long>(index.z) * shape.y + index.y) * shape.x + index.x;
  };
  on_access({address, on_device(address) ? Memory::global : Memory::shared, way, launches(),
             number(blockIdx, gridDim), static_cast<int>(number(threadIdx, blockDim)),
             block().thread().phase});
}

std::vector<Access> watch(const std::function<void()>& launches) {
  std::vector<Access> accesses;
  cudaDeviceSynchronize();  // what was submitted before is not meant
  on_access = [&](const Access& access) { accesses.push_back(access); };
  launches();
  cudaDeviceSynchronize();
  on_access = nullptr;
  return accesses;
}

Requests requests(const std::vector<Access>& accesses, Memory memory, Way way) {
  constexpr std::uintptr_t word_bytes = 4, sector_words = 8, banks = 32;
  std::map<std::tuple<long, long, int, int>, int> counts;  // of each thread since its last barrier
  std::map<std::tuple<long, long, int, int, int>, std::set<std::uintptr_t>> words_of;
  for (const Access& a : accesses) {
    if (a.memory != memory || a.way != way) continue;
    const int number = counts[{a.launch, a.block, a.thread, a.phase}]++;
    words_of[{a.launch, a.block, a.thread / Block::lanes, a.phase, number}].insert(
        reinterpret_cast<std::uintptr_t>(a.address) / word_bytes);
  }
  Requests result;
  for (const auto& [request, words] : words_of) {
    std::set<std::uintptr_t> sectors;
    int rounds[banks] = {};
    for (const std::uintptr_t word : words) {
      sectors.insert(word / sector_words);
      ++rounds[word % banks];
    }
    ++result.count;
    result.sectors += static_cast<long>(sectors.size());
    result.conflicts += *std::max_element(rounds, rounds + banks) - 1;
  }
  return result;
}

std::vector<Race> races(const std::vector<Access>& accesses) {
  // Of an address in a phase of a block: who touched it first, another thread that did, who wrote.
  struct Touched {
    const Access *first = nullptr, *other = nullptr, *writer = nullptr;
    bool raced = false;
  };
  std::map<std::tuple<long, long, int, const void*>, Touched> all;
  std::vector<Race> result;
  for (const Access& a : accesses) {
    Touched& t = all[{a.launch, a.block, a.phase, a.address}];
    if (t.first == nullptr) t.first = &a;
    const bool is_first = t.first->thread == a.thread;
    if (!is_first && t.other == nullptr) t.other = &a;
    const Access* against = a.way == Way::read ? t.writer : is_first ? t.other : t.first;
    if (against != nullptr && against->thread != a.thread && !t.raced) {
      result.push_back({*against, a});
      t.raced = true;
    }
    if (a.way == Way::write) t.writer = &a;
  }
  return result;
}

}  // namespace chalk::cuda::on_cpu
