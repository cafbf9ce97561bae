// Finding RAF-DB: its three layouts, made small in a temporary folder, and what can be wrong there.
#include "data/raf_db.h"

#include <doctest/doctest.h>

#include <map>
#include <set>
#include <string>

#include "tests/temporary_folder.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

// The folder of a data set.
struct Tree : TemporaryFolder {
  void add(const std::string& name, const std::string& text = "") const {
    fs::create_directories((path / name).parent_path());
    write_file(path / name, text);
  }

  // RAF-DB as on Kaggle: of every class two images to learn from and one for testing, not in order.
  void add_kaggle(const std::string& line_end = "\n") const {
    std::string train = "image,label" + line_end, test = train;
    for (int label = 7; label >= 1; --label) {
      const std::string number = std::to_string(label);
      for (const std::string& name : {"train_b" + number + ".jpg", "train_a" + number + ".jpg"}) {
        add("DATASET/train/" + number + "/" + name);
        train += name + "," + number + line_end;
      }
      add("DATASET/test/" + number + "/test_" + number + ".jpg");
      test += "test_" + number + ".jpg," + number + line_end;
    }
    add("train_labels.csv", train);
    add("test_labels.csv", test);
  }

  FaceSets find() const { return find_faces(path); }

  void check_refused(const std::vector<std::string>& words) const {
    check_error([this] { find(); }, words);
  }
};

// "name:label name:label ..." without folders.
std::string summary(const std::vector<LabeledImage>& images) {
  std::string text;
  for (const LabeledImage& image : images) {
    CHECK(fs::is_regular_file(image.path));
    text += (text.empty() ? "" : " ") + fs::path(image.path).filename().string() + ":" +
            std::to_string(image.label);
  }
  return text;
}

const std::string kaggle_train =
    "train_b7.jpg:6 train_a7.jpg:6 train_b6.jpg:5 train_a6.jpg:5 train_b5.jpg:4 train_a5.jpg:4 "
    "train_b4.jpg:3 train_a4.jpg:3 train_b3.jpg:2 train_a3.jpg:2 train_b2.jpg:1 train_a2.jpg:1 "
    "train_b1.jpg:0 train_a1.jpg:0";
const std::string kaggle_test =
    "test_7.jpg:6 test_6.jpg:5 test_5.jpg:4 test_4.jpg:3 test_3.jpg:2 test_2.jpg:1 test_1.jpg:0";

}  // namespace

TEST_CASE("Kaggle's layout, in the order of the label files") {
  const Tree tree;
  tree.add_kaggle();
  const FaceSets faces = tree.find();
  CHECK(faces.layout.find("Kaggle") != std::string::npos);
  CHECK(summary(faces.train) == kaggle_train);
  CHECK(summary(faces.test) == kaggle_test);
}

TEST_CASE("label files with Windows line ends, blank lines, quotes, blanks, other columns") {
  const Tree tree;
  tree.add_kaggle("\r\n\r\n");
  CHECK(summary(tree.find().train) == kaggle_train);
  tree.add(
      "test_labels.csv",
      "\xEF\xBB\xBF\"label\", \"who\",\"image\"\n\"2\",\"x\",\"test_2.jpg\"\n\n 7 ,, test_7.jpg");
  CHECK(summary(tree.find().test) == "test_2.jpg:1 test_7.jpg:6");
}

TEST_CASE("the official layout") {
  const Tree tree;
  std::string lines;
  for (int label = 1; label <= 7; ++label) {
    const std::string name = "_0000" + std::to_string(label);
    for (const std::string set : {"test", "train"}) {
      tree.add("Image/aligned/" + set + name + "_aligned.jpg");
      lines += set + name + ".jpg  " + std::to_string(label) + "\n";
    }
  }
  tree.add("EmoLabel/list_patition_label.txt", lines);
  const FaceSets faces = tree.find();
  CHECK(faces.layout.find("official") != std::string::npos);
  CHECK(faces.train.size() == 7);
  CHECK(faces.test.size() == 7);
  CHECK(faces.train[3].path == tree / "Image/aligned/train_00004_aligned.jpg");
  CHECK(faces.train[3].label == 3);
  CHECK(faces.test[6].label == 6);

  tree.add("EmoLabel/list_patition_label.txt", lines + "other_1.jpg 3\n");
  tree.check_refused({"list_patition_label.txt, line 15", "neither with train nor with test"});
  tree.add("EmoLabel/list_patition_label.txt", lines + "train_9.jpg 0\n");
  tree.check_refused({"list_patition_label.txt, line 15", "label 0 is out of range"});
  fs::remove(tree / "EmoLabel/list_patition_label.txt");
  tree.check_refused({"cannot read", "list_patition_label.txt: No such file"});
}

TEST_CASE("a folder per class, by number and by word, with a split") {
  for (const std::string test : {"test", "val", "validation"}) {
    const Tree tree;
    const char* words[] = {"Surprise", "fear", "disgusted", "HAPPY", "sadness", "angry", "neutral"};
    for (int label = 1; label <= 7; ++label) {
      tree.add(std::string("train/") + words[label - 1] + "/b.PNG");
      tree.add(std::string("train/") + words[label - 1] + "/a.jpeg");
      tree.add(std::string("train/") + words[label - 1] + "/notes.txt");
      tree.add(test + "/" + std::to_string(label) + "/c.jpg");
    }
    tree.add("train/other/d.jpg");
    const FaceSets faces = tree.find();
    CHECK(faces.layout.find(test + "/") != std::string::npos);
    CHECK(summary(faces.test) == "c.jpg:0 c.jpg:1 c.jpg:2 c.jpg:3 c.jpg:4 c.jpg:5 c.jpg:6");
    CHECK(faces.train.size() == 14);
    std::map<int, int> count;
    for (const LabeledImage& image : faces.train) {
      ++count[image.label];
      CHECK(image.path.find(words[image.label]) != std::string::npos);
    }
    CHECK(count.size() == 7);
    CHECK(summary({faces.train[0], faces.train[1]}) == "a.jpeg:3 b.PNG:3");  // HAPPY sorts first
  }
}

TEST_CASE("a folder per class without a split: a fifth of every class is for testing") {
  const Tree tree;
  for (int label = 1; label <= 7; ++label)
    for (int i = 0; i < 10 * label; ++i)
      tree.add(std::to_string(label) + "/" + std::to_string(100 + i) + ".png");
  const FaceSets faces = tree.find();
  CHECK(faces.layout.find("every fifth") != std::string::npos);
  std::map<int, int> train, test;
  std::set<std::string> paths;
  for (const LabeledImage& image : faces.train) {
    ++train[image.label];
    paths.insert(image.path);
  }
  for (const LabeledImage& image : faces.test) {
    ++test[image.label];
    paths.insert(image.path);
  }
  for (int label = 0; label < 7; ++label) {
    CHECK(train[label] == 8 * (label + 1));
    CHECK(test[label] == 2 * (label + 1));
  }
  CHECK(paths.size() == 280);  // none is in both
  CHECK(summary(tree.find().test) == summary(faces.test));
}

TEST_CASE("labels that make no sense are named by file and line") {
  const Tree tree;
  tree.add_kaggle();
  const auto refused = [&](const std::string& text, const std::vector<std::string>& words) {
    tree.add("train_labels.csv", text);
    tree.check_refused(words);
  };
  refused("image,label\ntrain_a1.jpg,1\n\ntrain_b1.jpg,happy\n",
          {tree / "train_labels.csv", "line 4", "\"happy\" is not a number", "1 (surprise)"});
  refused("image,label\ntrain_a1.jpg,8\n", {"line 2", "label 8 is out of range"});
  refused("image,label\ntrain_a1.jpg,1.5\n", {"line 2", "\"1.5\" is not a number"});
  refused("image,label\ntrain_a1.jpg,99999999999\n", {"line 2", "\"99999999999\""});
  refused("image,label\ntrain_a1.jpg\n", {"line 2", "lacks an image or a label"});
  refused("image,label\n,3\n", {"line 2", "name of the image is empty"});
  refused("file,label\nx,1\n", {"line 1", "no column \"image\"", "image,label"});
  refused("image,class\nx,1\n", {"line 1", "no column \"label\""});
  refused("image,label\n", {"the training set is empty"});
  refused("", {"the training set is empty"});
}

TEST_CASE("what is missing is named, with how much of it") {
  const Tree tree;
  tree.add_kaggle();
  fs::remove(tree / "DATASET/train/4/train_a4.jpg");
  fs::remove(tree / "DATASET/train/2/train_b2.jpg");
  tree.check_refused({"train_labels.csv, line 9", tree / "DATASET/train/4/train_a4.jpg",
                      "2 of the 14 images are missing"});
  fs::remove_all(tree / "DATASET");
  tree.check_refused({"14 of the 14 images are missing"});
  tree.add_kaggle();
  tree.add("train_labels.csv", "image,label\ntrain_a1.jpg,1\ntrain_a3.jpg,3\n");
  tree.check_refused({"no image of class 2 (fear)"});
  tree.add_kaggle();
  tree.add("test_labels.csv", "image,label\n");
  tree.check_refused({"the test set is empty"});
  fs::remove(tree / "test_labels.csv");
  tree.check_refused({"cannot read", tree / "test_labels.csv", "No such file"});
  fs::create_directories(tree / "test_labels.csv");
  tree.check_refused({"cannot read", tree / "test_labels.csv", "it is a folder"});
}

TEST_CASE("for a test nothing to learn from need be there") {
  const Tree tree;
  const auto check_found = [&tree](const std::string& found) {
    CHECK_THROWS_AS(tree.find(), Error);
    CHECK(summary(find_faces(tree.path, false).test) == found);
    fs::remove_all(tree.path);
  };
  tree.add_kaggle();
  fs::remove(tree / "train_labels.csv");
  fs::remove_all(tree / "DATASET/train");
  check_found(kaggle_test);

  tree.add("Image/aligned/test_1_aligned.jpg");
  tree.add("EmoLabel/list_patition_label.txt", "train_1.jpg 4\ntest_1.jpg 5\n");
  check_found("test_1_aligned.jpg:4");

  tree.add("test/happy/a.jpg");
  check_found("a.jpg:3");
  tree.add("3/a.jpg");
  for (int i = 0; i < 5; ++i)
    tree.add("2/" + std::to_string(i) + ".jpg");
  check_found("4.jpg:1");
}

TEST_CASE("a folder that holds no faces is refused") {
  const Tree tree;
  tree.check_refused({"found no faces", "train_labels.csv", "a folder per class"});
  tree.add("1/notes.txt");
  tree.check_refused({"found no faces"});
  tree.add("file");
  CHECK_THROWS_WITH_AS(find_faces(tree / "none"), doctest::Contains("there is no such folder"),
                       Error);
  CHECK_THROWS_WITH_AS(find_faces(tree / "file"), doctest::Contains("is not a folder"), Error);
  CHECK_THROWS_AS(find_faces(""), Error);
  fs::create_symlink("loop", tree / "loop");
  CHECK_THROWS_WITH_AS(find_faces(tree / "loop"), doctest::Contains("loop: Too many levels"),
                       Error);
}

TEST_CASE("the names of the expressions are in the order of RAF-DB's labels") {
  CHECK(kExpressionNames[0] == std::string("surprise"));
  CHECK(kExpressionNames[3] == std::string("happiness"));
  CHECK(kExpressionNames[6] == std::string("neutral"));
}
