// Which expression is on a face?
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "examples/fer/setup.h"

namespace chalk::fer {

struct PredictOptions {
  std::string weights;
  std::vector<std::string> images;
  bool json = false;
  std::optional<Index> image_size, heads;  // not given: those in the weights' metadata
  Machine machine;
};

// The command: prints the probability of each expression for each image file, as bars or as a JSON
// array. The images should show one face, upright and filling the picture, as in the training set.
// As there, the orientation in a photo's EXIF data is not honoured.
void predict(const PredictOptions& options);

}  // namespace chalk::fer
