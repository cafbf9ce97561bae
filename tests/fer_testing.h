// What the tests of the facial-expression program share: a tiny data set, and ways to call it.
#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>

#include "autograd/cpu/parallel.h"
#include "examples/fer/draw.h"
#include "examples/fer/train.h"
#include "tests/temporary_folder.h"

namespace chalk::testing {

// With a data set in it: two drawn faces of each class to learn from and one to test with, in
// RAF-DB's layout on Kaggle, listed class after class.
struct FerFolder : TemporaryFolder {
  FerFolder() {
    draw("train", 2);
    draw("test", 1);
  }
  ~FerFolder() { cpu::set_num_threads(0); }  // as it was before the runs in this folder

  std::string faces() const { return *this / "faces"; }

 private:
  void draw(const std::string& set, int of_each) {
    std::string csv = "image,label\n";
    for (int i = 0; i < kExpressions * of_each; ++i) {
      const std::string label = std::to_string(i / of_each + 1);
      const std::string name = set + std::to_string(i) + ".jpg";
      const fs::path folder = fs::path(faces()) / "DATASET" / set / label;
      fs::create_directories(folder);
      write_jpeg((folder / name).string(), draw_face(i / of_each, static_cast<std::uint64_t>(i)));
      csv += name + "," + label + "\n";
    }
    write_file(faces() + "/" + set + "_labels.csv", csv);
  }
};

// One epoch of three steps, then one with augmentation, at the smallest size. On one thread: others
// would only wait for each other.
inline fer::TrainOptions tiny_run(const FerFolder& folder, const std::string& out) {
  fer::TrainOptions options;
  options.program = CHALK_FER;
  options.data = folder.faces();
  options.out = folder / out;
  options.epochs = 1;
  options.augment_epochs = 1;
  options.batch = 5;
  options.threads = 1;
  options.image_size = fer::kMinImageSize;
  options.save_every = 2;
  return options;
}

// The same as arguments of the program.
inline std::string tiny_run_arguments(const FerFolder& folder, const std::string& out) {
  return "train --data " + folder.faces() + " --out '" + (folder / out) +
         "' --epochs 1 --augment-epochs 1 --batch 5 --threads 1 --image-size 81 --save-every 2 ";
}

// Keeps what is printed to std::cout while it lives.
class CapturedOutput {
 public:
  CapturedOutput() : before_(std::cout.rdbuf(text_.rdbuf())) {}
  ~CapturedOutput() { std::cout.rdbuf(before_); }
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::streambuf* before_;
};

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

struct Outcome {
  int code;
  std::string out, err;
};

// Runs a line of shell, in which $FER is the program.
inline Outcome shell(const FerFolder& folder, const std::string& line) {
  const std::string out = folder / "stdout", err = folder / "stderr";
  const std::string command =
      "FER=" CHALK_FER "; { " + line + "; } >" + out + " 2>" + err + " </dev/null";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_text(out), read_text(err)};
}

}  // namespace chalk::testing
