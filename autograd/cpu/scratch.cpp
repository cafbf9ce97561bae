#include "autograd/cpu/scratch.h"

#include <vector>

#include "autograd/check.h"

namespace chalk::cpu {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t cache_line = 64;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

struct Block {
  Memory memory;
  std::size_t bytes;
};

// The stack of one thread: everything before used in blocks[block] and all of the blocks before
// it is taken. It grows by adding blocks, since what was handed out may not move.
struct Arena {
  std::vector<Block> blocks;
  std::size_t block = 0, used = 0;

  void* take(std::size_t bytes) {
    if (!address_sanitizer) bytes = round_up(bytes, cache_line) + cache_line;  // other cache sets
    while (block < blocks.size() && used + bytes > blocks[block].bytes) {
      ++block;
      used = 0;
    }
    if (block == blocks.size()) {
      const std::size_t size = address_sanitizer ? bytes : round_up(bytes, huge_page);
      blocks.push_back({allocate_memory(size), size});
    }
    void* taken = blocks[block].memory.get() + used;
    used += bytes;
    return taken;
  }

  // Only what was taken before lies in use.
  void give_back(std::size_t to_block, std::size_t to_used) {
    block = to_block;
    used = to_used;
    if (address_sanitizer) return blocks.resize(used == 0 ? block : block + 1);
    if (block == 0 && used == 0 && blocks.size() > 1) merge();
  }

  // Nothing is taken any more: one block instead of several, for the next time.
  void merge() {
    std::size_t bytes = 0;
    for (const Block& piece : blocks)
      bytes += piece.bytes;
    blocks.clear();
    blocks.push_back({allocate_memory(bytes), bytes});
  }
};

thread_local Arena arena;

}  // namespace

Scratch::Scratch() : block_(arena.block), used_(arena.used) {}

Scratch::~Scratch() {
  try {
    arena.give_back(block_, used_);
  } catch (const Error&) {  // then the next one starts from nothing
  }
}

void* Scratch::take_bytes(std::size_t bytes) {
  return arena.take(bytes);
}

}  // namespace chalk::cpu
