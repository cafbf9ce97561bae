// Results as pictures: a confusion matrix, and curves over the epochs.
//
//   write_png("confusion.png", draw_confusion_matrix(counts, {"happy", "sad"}));
//   write_png("loss.png", draw_curves("mean loss", {{"train", train}, {"test", test}}));
#pragma once

#include <string>
#include <vector>

#include "data/image.h"

namespace chalk {

// counts[t][p]: how many images of class t were taken for class p. Each row is shaded by its
// shares, so that a rare class shows as well as a common one. ASCII names; 1 to 100 classes.
Image draw_confusion_matrix(const std::vector<std::vector<Index>>& counts,
                            const std::vector<std::string>& class_names);

// One value an epoch, from epoch 1 on. NaN, infinity and sizes from 1e30 on leave a gap.
struct Curve {
  std::string name;
  std::vector<double> values;
};

// Axes fit the values. ASCII text.
Image draw_curves(const std::string& title, const std::vector<Curve>& curves);

}  // namespace chalk
