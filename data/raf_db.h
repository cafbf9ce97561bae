// RAF-DB, the Real-world Affective Faces Database: faces with one of seven expressions, in any of
// the forms in which people keep it. Finding a data set reads no image.
#pragma once

#include <string>
#include <vector>

namespace chalk {

inline constexpr int kExpressions = 7;
// In the order of the labels, which are 1 to 7 in files and 0 to 6 in the program.
inline constexpr const char* kExpressionNames[kExpressions] = {
    "surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"};

struct LabeledImage {
  std::string path;
  int label;  // 0 to 6
};

struct FaceSets {
  std::string layout;                     // which one was found, in words
  std::vector<LabeledImage> train, test;  // in the order of the label file, or by class and name
};

// Finds the images below a folder, whose layout is one of
//   Kaggle's    train_labels.csv, test_labels.csv (columns image, label) and
//               DATASET/{train,test}/<label>/<image>
//   official    EmoLabel/list_patition_label.txt (sic; lines "train_00001.jpg 5") and
//               Image/aligned/<name>_aligned.jpg
//   by class    a folder per class, named by number (1, 2, ...) or word (happy, angry, ...), below
//               train/ and test/; without these, every fifth image of a class is for testing
// Throws Error, naming file and line, for labels that make no sense, images that are not there, and
// classes without a training image. `with_training` false finds the test images alone: `train` is
// empty, and nothing need be there for it.
FaceSets find_faces(const std::string& folder, bool with_training = true);

}  // namespace chalk
