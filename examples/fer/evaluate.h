// How good the network is: on images it has not learned from.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "autograd/check.h"
#include "data/data_loader.h"
#include "examples/fer/draw.h"
#include "examples/fer/fer_net.h"
#include "examples/fer/progress.h"
#include "examples/fer/setup.h"

namespace chalk::fer {

// How many images of each class were taken for each class.
struct Confusion {
  // counts[t][p]: of class t, taken for p
  std::vector<std::vector<Index>> counts =
      std::vector(kExpressions, std::vector<Index>(kExpressions));

  Index images_of(int label) const;
  Index images() const;
  Index correct() const;
  double accuracy() const;
  // The share of the images of a class that were found, and of those taken for it that are in it.
  // 0 where there are none.
  double recall(int label) const;
  double precision(int label) const;
  double f1(int label) const;  // their harmonic mean
  double mean_recall() const;  // over the classes that have images: every class counts alike

  // The matrix and the figures, as tables for the screen; the matrix as a CSV file.
  std::string report() const;
  std::string csv() const;
};

// report.txt, confusion.csv and confusion.png.
void write_report(const std::string& folder, const Confusion& confusion);

using Probabilities = std::array<float, kExpressions>;

// Numbers that have left all bounds: the weights are of no use.
class NotFinite : public Error {
  using Error::Error;
};

// Of logits [images, 7]. Throws NotFinite if they are not finite.
std::vector<Probabilities> probabilities_of(const Tensor& logits);
int most_probable(const Probabilities& probabilities);

struct Evaluation {
  std::vector<Probabilities> probabilities;  // by image, in the loader's order
  Confusion confusion;
  double loss = 0;  // mean cross entropy
};

// One pass of the loader, which must not shuffle, in evaluation mode, in which it leaves the model.
// Gives up, with nothing, when a stop is requested meanwhile.
std::optional<Evaluation> evaluate(FerNet& model, DataLoader& loader, Device device,
                                   ProgressLine& progress);

struct EvaluateOptions {
  std::string weights;
  std::string data;         // folder of the data set; none: the drawn faces
  std::string out;          // folder for the report; none: evaluation/ beside the weights
  std::string predictions;  // CSV file with a row for each image; none: not written
  std::optional<Index> image_size, heads;  // not given: those in the weights' metadata
  Index batch = 32;
  Machine machine;
};

// The command: tests weights on a data set's test images. Prints the report and writes
// it with the confusion matrix, and a row for each image if asked.
void evaluate(const EvaluateOptions& options);

}  // namespace chalk::fer
