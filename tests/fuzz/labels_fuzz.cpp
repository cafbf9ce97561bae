// Any text as the labels of a data set: faces or an Error. The first byte says in which layout:
//   0  Kaggle's, the text is both label files     1  the official one, the text is its label file
//   2  a folder per class, the text names the folders, one a line
#include <sstream>

#include "autograd/check.h"
#include "data/raf_db.h"
#include "tests/fuzz/input_file.h"

using namespace chalk;
using fuzz::fs::path;

// The images that the seeds name.
static void add_images(const path& folder) {
  for (int label = 1; label <= 7; ++label) {
    for (const char* set : {"train", "test"}) {
      const path classes = folder / "kaggle/DATASET" / set / std::to_string(label);
      create_directories(classes);
      fuzz::write(classes / "a.jpg");
      create_directories(folder / "official/Image/aligned");
      fuzz::write(folder / "official/Image/aligned" /
                  (set + std::to_string(label) + "_aligned.jpg"));
    }
  }
  create_directories(folder / "official/EmoLabel");
}

static void add_class_folders(const path& folder, const std::string& text) {
  remove_all(folder);
  create_directories(folder);
  std::istringstream lines(text);
  std::string line;
  for (int i = 0; i < 30 && std::getline(lines, line); ++i) {
    if (line.find("..") != std::string::npos) continue;  // none but below the folder
    std::error_code not_a_name;
    const path classes = folder.string() + "/" + line;
    create_directories(classes, not_a_name);
    if (!not_a_name) fuzz::write(classes / "a.png");
  }
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::ScratchFolder folder;
  static const bool once = (add_images(folder.path), true);
  if (!once || size == 0) return 0;
  const std::span text(data + 1, size - 1);
  const char* names[] = {"kaggle", "official", "classes"};
  const path here = folder.path / names[data[0] % 3];
  if (data[0] % 3 == 0)
    for (const char* labels : {"train_labels.csv", "test_labels.csv"})
      fuzz::write(here / labels, text);
  else if (data[0] % 3 == 1)
    fuzz::write(here / "EmoLabel/list_patition_label.txt", text);
  else
    add_class_folders(here, {text.begin(), text.end()});
  try {
    find_faces(here);
  } catch (const Error&) {
  }
  return 0;
}
