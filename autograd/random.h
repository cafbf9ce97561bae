// Random numbers from a counter: number i of a stream is a function of (seed, i) alone.
//
// Nothing is carried from one number to the next, so any number of threads, or a GPU, draw the
// same ones, and two integers are the whole state a checkpoint must hold.
// Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
#pragma once

#include <array>
#include <cstdint>

namespace chalk {

// Four random words for one counter. Ten rounds of multiply, swap and mix.
constexpr std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t counter) {
  std::uint32_t key0 = static_cast<std::uint32_t>(key);
  std::uint32_t key1 = static_cast<std::uint32_t>(key >> 32);
  std::array<std::uint32_t, 4> word = {static_cast<std::uint32_t>(counter),
                                       static_cast<std::uint32_t>(counter >> 32), 0, 0};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53} * word[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57} * word[2];
    word = {static_cast<std::uint32_t>(product1 >> 32) ^ word[1] ^ key0,
            static_cast<std::uint32_t>(product1),
            static_cast<std::uint32_t>(product0 >> 32) ^ word[3] ^ key1,
            static_cast<std::uint32_t>(product0)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return word;
}

// The whole state of a stream. Element i of a tensor filled from it uses counter + i, then the
// counter moves on by the number of elements.
struct Generator {
  std::uint64_t seed = 0;
  std::uint64_t counter = 0;

  // Uniform in [0, 1), 53 bits.
  double uniform() { return uniform_at(seed, counter++); }

  static constexpr double uniform_at(std::uint64_t seed, std::uint64_t counter) {
    const auto word = philox(seed, counter);
    const std::uint64_t bits = (std::uint64_t{word[0]} << 32 | word[1]) >> 11;
    return static_cast<double>(bits) * 0x1p-53;
  }
};

// The stream behind initial values and dropout where no other is given.
Generator& default_generator();

// Starts the default stream afresh.
void manual_seed(std::uint64_t seed);

}  // namespace chalk
