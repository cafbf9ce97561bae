// Draws faces with expressions: the data set that this example learns from when no other is given.
//
// RAF-DB may not be passed on, so chalk draws faces of its own: 100 x 100 pixels like RAF-DB's, in
// RAF-DB's folders, with its seven labels in its unequal proportions. What tells the expressions
// apart is the geometry alone (brows, lids, nose, mouth); people, poses, light and cameras vary at
// random and independently of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/image.h"
#include "data/raf_db.h"

namespace chalk {

inline constexpr Index kFaceSize = 100;  // pixels, both ways

// One face, 100 x 100. `expression` is 0 to 6; equal seeds give the same person in the same pose,
// light and background, whatever the expression.
Image draw_face(int expression, std::uint64_t seed);

// The labels, 0 to 6, of a set of `count` images in RAF-DB's proportions. Any beginning of it is
// in these proportions too.
std::vector<int> draw_labels(Index count);

// Counts up when the same seed comes to give other faces, so that those drawn before are not taken
// for them.
inline constexpr int kDrawingVersion = 1;

struct DrawOptions {
  std::string directory;
  Index train_images = 1216;
  Index test_images = 304;
  std::uint64_t seed = 1;
};

// Writes the data set in RAF-DB's layout:
//   <directory>/{train,test}_labels.csv                  image,label with labels 1 to 7
//   <directory>/DATASET/{train,test}/<label>/<image>
// An image depends on the seed, its set and its number only. The directory appears when all of it
// is written; until then it is called <directory>.<process>.tmp. Fails if it exists already or
// cannot be written.
void draw_dataset(const DrawOptions& options);

// A person per column, an expression per row, one picture beside the other.
Image contact_sheet(Index columns, std::uint64_t seed);

}  // namespace chalk
