// What goes wrong from outside: each case ends with one message that says what, where and what to
// do, with exit code 1 (2 where the command line itself is not understood), and loses nothing.
#include <doctest/doctest.h>

#include <algorithm>

#include "autograd/check.h"
#include "data/safetensors.h"
#include "examples/fer/checkpoint.h"
#include "tests/fer_testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

// Runs the program, expects it to fail with this code and a message that contains `expected`.
void refused(const FerFolder& folder, const std::string& line, const std::string& expected,
             int code = 1) {
  CAPTURE(line);
  const Outcome outcome = shell(folder, line);
  CHECK(outcome.code == code);
  CHECK_MESSAGE(contains(outcome.err, expected), outcome.err);
  CHECK(outcome.err.rfind("fer: ") == 0);
  CHECK(!contains(outcome.err, "terminate"));
}

// Weights of an untrained network.
std::string make_weights(const FerFolder& folder) {
  const std::string path = folder / "weights.safetensors";
  fer::save_weights(path, {.image_size = 81}, FerNet(), {});
  return path;
}

void replace_in_file(const std::string& path, const std::string& from, const std::string& to) {
  std::string text = read_text(path);
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  write_file(path, text.replace(at, from.size(), to));
}

}  // namespace

TEST_CASE("command lines that are not understood") {
  const FerFolder folder;
  refused(folder, "$FER", "subcommand is required", 2);
  refused(folder, "$FER dance", "subcommand is required", 2);
  refused(folder, "$FER train --speed 7", "--speed", 2);
  refused(folder, "$FER train --batch many", "--batch", 2);
  refused(folder, "$FER train --lr fast", "--lr", 2);
  refused(folder, "$FER train --steps 1e3", "--steps", 2);
  refused(folder, "$FER predict face.jpg", "--weights", 2);
  refused(folder, "$FER predict --weights w.safetensors", "images", 2);
  refused(folder, "$FER evaluate", "--weights", 2);
  for (const char* help : {"$FER --help", "$FER train --help", "$FER predict -h"}) {
    const Outcome outcome = shell(folder, help);
    CHECK(outcome.code == 0);
    CHECK(contains(outcome.out, "Usage"));
    CHECK(outcome.err == "");
  }
}

TEST_CASE("values that make no sense") {
  const FerFolder folder;
  const std::string train = "$FER train --data " + folder.faces() + " --out " + (folder / "run");
  refused(folder, train + " --batch 0", "--batch 0: expected 1 to 4096");
  refused(folder, train + " --batch -5", "--batch -5");
  refused(folder, train + " --lr -1", "--lr -1: expected 0 to");
  refused(folder, train + " --lr nan", "--lr nan");
  refused(folder, train + " --lr inf", "--lr inf");
  refused(folder, train + " --weight-decay nan", "--weight-decay nan");
  refused(folder, train + " --epochs -1", "--epochs -1");
  refused(folder, train + " --epochs 0", "nothing to do");
  refused(folder, train + " --seed -1", "--seed -1");
  refused(folder, train + " --steps 0", "--steps 0");
  refused(folder, train + " --save-every 0", "--save-every 0");
  refused(folder, train + " --image-size 80", "--image-size 80: the network needs 81 to");
  refused(folder, train + " --image-size 100000", "--image-size 100000");
  refused(folder, train + " --heads 3", "--heads 3: must divide 256");
  refused(folder, train + " --heads 0", "--heads 0");
  refused(folder, train + " --threads -1", "--threads -1");
  refused(folder, train + " --workers 1000", "--workers 1000");
  refused(folder, train + " --device abacus", "--device abacus: expected cpu or cuda");
  refused(folder, "$FER evaluate --weights none --batch 0", "--batch 0: expected 1 to 4096");
  refused(folder, "$FER draw", "--out");
  refused(folder, "$FER draw --out " + (folder / "drawn") + " --train 0", "0 train");
  CHECK(!fs::exists(folder / "run"));
  CHECK(!fs::exists(folder / "drawn"));
}

TEST_CASE("data sets that are not there or not whole") {
  const FerFolder folder;
  const std::string faces = folder.faces();
  const std::string train =
      "$FER train --threads 1 --image-size 81 --data " + faces + " --out " + (folder / "run");
  refused(folder, "$FER train --data " + (folder / "none"), folder / "none");
  fs::create_directories(folder / "empty");
  refused(folder, "$FER train --data " + (folder / "empty"), folder / "empty");

  const std::string csv = faces + "/train_labels.csv";
  const std::string labels = read_text(csv);
  replace_in_file(csv, "train3.jpg,2", "train3.jpg,8");
  refused(folder, train, "line 5: the label 8 is out of range");
  write_file(csv, labels);
  replace_in_file(csv, "train3.jpg,2", "train3.jpg,fear");
  refused(folder, train, "line 5: the label \"fear\" is not a number");
  write_file(csv, labels);
  replace_in_file(csv, "train2.jpg,2\ntrain3.jpg,2\n", "");
  refused(folder, train, "class 2");
  write_file(csv, labels);
  fs::rename(csv, csv + ".away");
  refused(folder, train, "train_labels.csv");
  fs::rename(csv + ".away", csv);

  const std::string image = faces + "/DATASET/train/2/train3.jpg";
  fs::rename(image, image + ".away");
  refused(folder, train, "train3.jpg");
  CHECK(!fs::exists(folder / "run"));  // all of these are found before anything is written
  write_file(image, "this is no JPEG");
  refused(folder, train, "train3.jpg: it is no JPEG, PNG or BMP");
  refused(folder, train, "there is a run in");
  write_file(image, "");
  refused(folder, "$FER train --resume --out " + (folder / "run"), "train3.jpg: it is empty");
  fs::rename(image + ".away", image);
  CHECK(shell(folder, "$FER train --resume --steps 2 --out " + (folder / "run")).code == 0);
}

TEST_CASE("images to predict") {
  const FerFolder folder;
  const std::string predict = "$FER predict --threads 1 --weights " + make_weights(folder) + " ";
  const std::string images = CHALK_FIXTURES "/images/";
  write_png(folder / "one.png", {1, 1, {255, 0, 0}});
  for (const std::string& image : {images + "grey.jpg", images + "cmyk.jpg", folder / "one.png"}) {
    const Outcome outcome = shell(folder, predict + "--json " + image);
    CHECK(outcome.code == 0);
    CHECK(contains(outcome.out, "\"predicted\""));
  }
  const std::string good = folder.faces() + "/DATASET/test/1/test0.jpg";
  const std::string cut = folder / "cut.jpg";
  const std::vector<std::uint8_t> bytes = read_file(good);
  write_file(cut, std::span(bytes).first(bytes.size() / 2));
  refused(folder, predict + cut, "cut.jpg: it is cut short");
  write_png(folder / "huge.png", {1, 1, {0, 0, 0}});
  std::string huge = read_text(folder / "huge.png");
  huge.replace(16, 8, std::string("\0\0\x27\x10\0\0\x27\x10", 8));  // its width and height
  write_file(folder / "huge.png", huge);
  refused(folder, predict + (folder / "huge.png"), "huge.png: it claims 10000 x 10000 pixels");
  refused(folder, predict + (folder / "none.jpg"), "none.jpg: No such file");
  refused(folder, predict + folder.faces(), "it is a folder");
  const Outcome outcome = shell(folder, predict + "--json " + good + " " + cut);
  CHECK(outcome.out == "");  // no half of an array
  CHECK(outcome.code == 1);
}

TEST_CASE("weights of another network, or damaged") {
  const FerFolder folder;
  const std::string weights = make_weights(folder);
  const std::string face = folder.faces() + "/DATASET/test/1/test0.jpg";
  const std::string predict = "$FER predict --threads 1 " + face + " --weights ";
  refused(folder, predict + (folder / "none"), "No such file");
  refused(folder, predict + face, "safetensors");
  refused(folder, predict + CHALK_FIXTURES "/sample.safetensors", "not for this network");
  refused(folder, predict + weights + " --heads 7", "--heads 7");

  const std::vector<std::uint8_t> bytes = read_file(weights);
  const std::string other = folder / "other.safetensors";
  write_file(other, std::span(bytes).first(bytes.size() - 1));
  refused(folder, predict + other, "cut short");
  TensorFile file = read_safetensors(weights);
  file.metadata["heads"] = "3";
  write_safetensors(other, file);
  refused(folder, predict + other, "--heads 3");
  file.metadata["heads"] = "many";
  write_safetensors(other, file);
  refused(folder, predict + other, "its metadata");
  file.metadata["heads"] = std::string(100'000, '[') + std::string(100'000, ']');
  write_safetensors(other, file);
  refused(folder, predict + other, "its metadata");
  file.metadata.erase("heads");
  *file.tensors.at("classifier.bias").mutable_data<float>() = NAN;
  write_safetensors(other, file);
  refused(folder, predict + other, "weights are damaged");
  file.tensors.erase("classifier.bias");
  write_safetensors(other, file);
  refused(folder, predict + other, "missing: classifier.bias [7]");
  refused(folder,
          "$FER train --data " + folder.faces() + " --out " + (folder / "run") + " --init " + other,
          "missing: classifier.bias [7]");
  CHECK(!fs::exists(folder / "run"));
}

TEST_CASE("runs that cannot be resumed") {
  const FerFolder folder;
  const std::string run = folder / "run";
  const std::string resume = "$FER train --resume --out " + run;
  refused(folder, resume, "there is no run to resume");
  REQUIRE(shell(folder, "$FER " + tiny_run_arguments(folder, "run") + " --steps 1").code == 0);
  refused(folder, resume + " --batch 8", "--batch: the run was begun with 5");
  refused(folder, resume + " --heads 2", "--heads: the run was begun with 1");
  refused(folder, "$FER " + tiny_run_arguments(folder, "run"), "go on with it: ");
  refused(folder, "$FER train --data " + folder.faces() + " --out " + folder.faces(), "is no run");

  const std::string last = run + "/last.safetensors", config = run + "/config.json";
  const std::string csv = folder.faces() + "/train_labels.csv", labels = read_text(csv);
  replace_in_file(csv, "train3.jpg,2\n", "");
  refused(folder, resume, "has 13 images to learn from, the run began with 14");
  write_file(csv, labels);
  const std::vector<std::uint8_t> checkpoint = read_file(last);
  write_file(last, std::span(checkpoint).first(1000));
  refused(folder, resume, "last.safetensors");
  fer::save_weights(last, {}, FerNet(), {});
  refused(folder, resume, "no checkpoint of a run");
  write_file(last, checkpoint);
  const std::string options = read_text(config);
  write_file(config, "{");
  refused(folder, resume, "config.json");
  write_file(config, options);
  replace_in_file(config, "\"lr\": 0.001", "\"lr\": \"fast\"");
  refused(folder, resume, "config.json");
  write_file(config, options);
  replace_in_file(config, "\"batch\": 5", "\"batch\": 0");
  refused(folder, resume, "--batch 0");
  write_file(config, options);
  fs::create_symlink("loop", folder / "loop");
  refused(folder, "$FER train --resume --out " + (folder / "loop"), "Too many levels");
  refused(folder, "$FER train --data " + folder.faces() + " --out " + (folder / "loop"), "loop: ");
  fs::rename(run + "/log.csv", run + "/log");
  fs::create_symlink("log.csv", run + "/log.csv");
  refused(folder, resume, "Nothing that was saved is lost; to go on");
  fs::rename(run + "/log", run + "/log.csv");
  CHECK(shell(folder, resume + " --steps 2").code == 0);
}

TEST_CASE("output that cannot be written") {
  const FerFolder folder;
  const std::string file = folder.faces() + "/train_labels.csv";
  const std::string tiny = tiny_run_arguments(folder, "run"), run = folder / "run";
  refused(folder, "$FER train --data " + folder.faces() + " --out " + file + "/run", "--out");
  refused(folder, "$FER train --data " + folder.faces() + " --out " + file, "is no run");

  // The file size limit stands for a full disk. It is in blocks of 512 bytes.
  refused(folder, "ulimit -f 4000; $FER " + tiny, "last.safetensors: File too large");
  CHECK(!fs::exists(run + "/last.safetensors"));
  REQUIRE(shell(folder, "$FER train --resume --steps 2 --out " + run).code == 0);
  const std::vector<std::uint8_t> good = read_file(run + "/last.safetensors");
  refused(folder, "ulimit -f 4000; $FER train --resume --out " + run, "--resume --out " + run);
  CHECK(read_file(run + "/last.safetensors") == good);
  CHECK(!fs::exists(run + "/last.safetensors.tmp"));

  const std::string weights = make_weights(folder);
  const std::string evaluate =
      "$FER evaluate --threads 1 --data " + folder.faces() + " --weights " + weights;
  refused(folder, evaluate + " --predictions " + (folder / "none") + "/p.csv",
          "p.csv: No such file");
  refused(folder, evaluate + " --out " + file + "/here", "--out");
  if (fs::is_character_file("/dev/full")) {
    refused(folder, evaluate + " --predictions /dev/full", "/dev/full: No space left");
    refused(folder, evaluate + " --predictions " + (folder / "p.csv") + " >/dev/full",
            "cannot write to standard output");
  }
  refused(folder, "$FER draw --train 50 --out " + file + "/drawn", "drawn");
  refused(folder, "$FER draw --sheet " + file + "/sheet.png", "sheet.png");
}
