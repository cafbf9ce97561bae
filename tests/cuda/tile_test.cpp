// The layout of the warp's tile: what the lanes own, and that no read has a bank conflict.
#include <doctest/doctest.h>

#include <set>

#include "cuda/tile_layout.h"

using namespace chalk::cuda;

namespace {

// How often the warp's read of 16 bytes a lane has to be repeated for some bank, over the four
// parts of 8 lanes in which it is done. place(lane): the first of the lane's four floats.
template <typename Place>
int conflicts(const Place& place) {
  int count = 0;
  for (int part = 0; part < 32; part += 8) {
    std::set<int> banks;
    for (int lane = part; lane < part + 8; ++lane)
      for (int e = 0; e < 4; ++e)
        banks.insert((place(lane) + e) % 32);
    count += 32 - static_cast<int>(banks.size());
  }
  return count;
}

}  // namespace

TEST_CASE("reads of a warp's operands have no bank conflicts") {
  for (int j = 0; j < 8; ++j)
    CHECK(conflicts([&](int lane) { return along_place(lane, j); }) == 0);
  for (const int rows : {32, 64, 128, 256})
    for (int q = 0; q < 4; ++q)
      for (int h = 0; h < rows / 32; ++h)
        CHECK(conflicts([&](int lane) { return across_place(lane, q, h, across_stride(rows)); }) ==
              0);
  // Without the padding there would be.
  CHECK(conflicts([](int lane) { return lane_row(lane, 0) * tile_depth + lane % 4 * 4; }) > 0);
  CHECK(conflicts([](int lane) { return across_place(lane, 0, 0, 64); }) > 0);
}

TEST_CASE("the lanes of a warp share a tile out") {
  std::set<int> elements, slots;
  for (int lane = 0; lane < 32; ++lane)
    for (int j = 0; j < 8; ++j)
      for (int q = 0; q < 4; ++q)
        for (int e = 0; e < 4; ++e)
          elements.insert(lane_row(lane, j) * 64 + lane_column(lane, q) + e);
  CHECK(elements.size() == 64 * 64);
  CHECK(*elements.rbegin() == 64 * 64 - 1);

  for (int k = 0; k < tile_depth; ++k)
    slots.insert(across_slot(k));
  CHECK(slots.size() == tile_depth);
  // Whichever way an operand lies, a lane's number q is the same depth.
  for (int lane = 0; lane < 4; ++lane)
    for (int q = 0; q < 4; ++q)
      CHECK(across_place(lane, q, 0, 1) == across_slot(along_place(lane, 0) + q));
}
