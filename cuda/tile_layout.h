// Where the numbers of a warp tile (tile.cuh) lie, in shared memory and among the warp's lanes.
// Plain arithmetic, so that a test can count the bank conflicts.
//
// A 16-byte read of a warp is done in four parts of 8 lanes, each without conflict if its lanes
// read all 32 banks (float k of shared memory is in bank k % 32). The strides below see to that.
#pragma once

namespace chalk::cuda {

// How many products each element of C gets in one step.
constexpr int tile_depth = 16;

// An operand [rows, depth] lies in shared memory in one of two ways:
//   along the depth   [rows][20], where memory has consecutive depths together
//   across the depth  [16][rows + 8], where it has consecutive rows together
constexpr int along_stride = tile_depth + 4;
constexpr int across_stride(int rows) {
  return rows + 8;
}

// Lane 4 g + t owns the rows 4 g .. 4 g + 3 of every 32 rows of A, and of every 32 columns of B:
// row j = 0, 1, .. of them.
constexpr int lane_row(int lane, int j) {
  return j / 4 * 32 + lane / 4 * 4 + j % 4;
}

// Of C it ends with the rows that it owns of A, and of each in runs of four columns, of which run
// q = 0, 1, .. begins here: 8 t .. 8 t + 7 of every 32.
constexpr int lane_column(int lane, int q) {
  return q / 2 * 32 + lane % 4 * 8 + q % 2 * 4;
}

// Where a lane finds the four consecutive depths that it reads of its row j.
constexpr int along_place(int lane, int j) {
  return lane_row(lane, j) * along_stride + lane % 4 * 4;
}

// Where it finds its four consecutive rows 4 h .. 4 h + 3, at the depth that is its number q = 0
// to 3.
constexpr int across_place(int lane, int q, int h, int stride) {
  return (q * 4 + lane % 4) * stride + lane_row(lane, 4 * h);
}

// So a lane's number q is the depth 4 t + q along, and what lies at 4 q + t across. Both operands
// must mean the same depth: beside one that lies along the depth, one that lies across has its
// depth k at this place. (If both lie across, any order will do.)
constexpr int across_slot(int k) {
  return k % 4 * 4 + k / 4;
}

}  // namespace chalk::cuda
