// What goes wrong from outside: each case ends with one message that says what, where and what to
// do, with exit code 1 (2 where the command line itself is not understood), and loses nothing.
#include <doctest/doctest.h>

#include <algorithm>

#include "autograd/check.h"
#include "autograd/cpu/memory.h"
#include "autograd/devices.h"
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
  for (const char* number : {"''", "' 5'", "'5 '", "5.", "0x10", "1e3", "1_000", "+5", "five",
                             "18446744073709551616", "-18446744073709551616"})
    for (const char* option : {"--seed", "--batch", "--threads"})
      refused(folder, std::string("$FER train ") + option + " " + number, option, 2);
  for (const char* number : {"' 0.1'", "0x1p-3", "1e-400", "1e400", "1,5", "0.1f"})
    refused(folder, std::string("$FER train --lr ") + number, "expected a number", 2);
  refused(folder, "$FER evaluate --weights w --batch ''", "--batch: its value is empty", 2);
  refused(folder, "$FER predict --weights w --image-size '' face.jpg", "--image-size: its value",
          2);
  refused(folder, "$FER train --data ''", "--data: its value is empty", 2);
  refused(folder, "$FER train --out ''", "--out: its value is empty", 2);
  refused(folder, "$FER draw --seed -1", "--seed '-1'", 2);
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
  refused(folder, train + " --batch 05000", "--batch 5000: expected 1 to 4096");  // not octal
  refused(folder, train + " --steps 0", "--steps 0");
  refused(folder, train + " --save-every 0", "--save-every 0");
  refused(folder, train + " --image-size 80", "--image-size 80: the network needs 81 to");
  refused(folder, train + " --image-size 100000", "--image-size 100000");
  refused(folder, train + " --heads 3", "--heads 3: must divide 256");
  refused(folder, train + " --heads 0", "--heads 0");
  refused(folder, train + " --threads -1", "--threads -1");
  refused(folder, train + " --workers 1000", "--workers 1000");
  refused(folder, train + " --device abacus", "--device abacus: there is no device called");
  if (!cuda_available())  // said before the weights, or the data set, are looked for
    for (const char* command :
         {"train --data none", "predict --weights none face.jpg", "evaluate --weights none"})
      refused(folder, "$FER " + std::string(command) + " --device cuda",
              "--device cuda: chalk was built without CUDA");
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
  const std::string init =
      "$FER train --data " + folder.faces() + " --out " + (folder / "run") + " --init " + other;
  refused(folder, init, "classifier.bias is not finite");
  file.tensors.erase("classifier.bias");
  write_safetensors(other, file);
  refused(folder, predict + other, "missing: classifier.bias [7]");
  refused(folder, init, "missing: classifier.bias [7]");
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
  refused(folder, resume, "config.json: batch 0: expected 1 to 4096");
  write_file(config, options);
  fs::create_symlink("loop", folder / "loop");
  refused(folder, "$FER train --resume --out " + (folder / "loop"), "Too many levels");
  refused(folder, "$FER train --data " + folder.faces() + " --out " + (folder / "loop"), "loop: ");
  fs::rename(run + "/log.csv", run + "/log");
  fs::create_symlink("log.csv", run + "/log.csv");
  refused(folder, resume, "\nto go on: ");
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
  CHECK(!fs::exists(run));
  REQUIRE(shell(folder, "$FER " + tiny + "--steps 2").code == 0);
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

TEST_CASE("fields of a run's files that make no sense are named") {
  const FerFolder folder;
  const std::string run = folder / "run";
  REQUIRE(shell(folder, "$FER " + tiny_run_arguments(folder, "run") + " --steps 1").code == 0);
  const std::string resume = "$FER train --resume --out " + run;
  const std::string config = run + "/config.json", last = run + "/last.safetensors";
  const std::string options = read_text(config);
  const std::tuple<const char*, const char*, const char*> fields[] = {
      {"\"epochs\": 1", "\"epochs\": -1", "epochs -1: expected 0 to"},
      {"\"epochs\": 1", "\"epochs\": 1.5", "epochs is 1.5, expected a whole number"},
      {"\"batch\": 5", "\"batch\": true", "(/recipe/batch) type must be number, but is boolean"},
      {"\"seed\": 0", "\"seed\": 18446744073709551615", "seed -1: expected 0 to"},
      {"\"lr\": 0.001", "\"lr\": 1e999", "number overflow"},
      {"\"warmup_epochs\": 0.0", "\"warmup_epochs\": -3", "warmup_epochs -3"},
      {"\"threads\": 1", "\"threads\": 5000", "threads 5000: expected 0 to 1024"},
      {"\"image_size\": 81", "\"image_size\": 20", "--image-size 20"},
      {"\"heads\": 1", "\"heads\": 2", "a checkpoint of image_size 81 and heads 1"},
      {"\"image_size\": 81", "\"image_size\": 82", "config.json says 82 and 1"}};
  for (const auto& [before, after, expected] : fields) {
    replace_in_file(config, before, after);
    refused(folder, resume, expected);
    write_file(config, options);
  }

  const TensorFile checkpoint = read_safetensors(last);
  const std::tuple<const char*, const char*, const char*> states[] = {
      {"step", "-1", "step -1: expected 0 to"},
      {"step", "1000", "step 1000, epoch 0, batch 1"},
      {"step", "1.5", "step is 1.5, expected a whole number"},
      {"batch", "2", "batch 2: expected 0 to 1"},
      {"images", "7", "step 1, epoch 0, batch 1 and images 7 do not fit 3 steps an epoch"},
      {"correct", "6", "correct 6: expected 0 to 5"},
      {"loss_sum", "-1.5", "loss_sum -1.5"},
      {"best_accuracy", "2.5", "best_accuracy 2.5: expected -1 to 1"},
      {"best_epoch", "9", "best_epoch 9: expected 0 to"},
      {"generator_seed", "-1",
       "generator_seed 18446744073709551615, the run's config.json says seed 0"},
      {"generator_seed", "-1.5",
       "this is no checkpoint of a run ([json.exception.type_error.302] (/generator_seed)"}};
  for (const auto& [field, value, expected] : states) {
    TensorFile changed = checkpoint;
    changed.metadata[field] = value;
    write_safetensors(last, changed);
    refused(folder, resume, "last.safetensors: " + std::string(expected));
  }
  const std::pair<Index, const char*> counts[] = {{-1, "AdamW: step is -1"},
                                                  {2, "optimizer.step 2: expected 0 to 1"}};
  for (const auto& [count, expected] : counts) {
    TensorFile changed = checkpoint;
    *changed.tensors.at("optimizer.step").mutable_data<Index>() = count;
    write_safetensors(last, changed);
    refused(folder, resume, "last.safetensors: " + std::string(expected));
  }
}

TEST_CASE("runs whose checkpoint is gone or damaged are not begun again") {
  const FerFolder folder;
  const std::string run = folder / "run", last = run + "/last.safetensors";
  REQUIRE(shell(folder, "$FER " + tiny_run_arguments(folder, "run") + " --steps 4").code == 0);
  const std::string resume = "$FER train --resume --out " + run;
  const auto best = read_file(run + "/best.safetensors");
  const std::string log = read_text(run + "/log.csv");
  fs::rename(last, last + ".away");
  fs::rename(run + "/sane.safetensors", run + "/sane.safetensors.away");
  refused(folder, resume, "last.safetensors, the checkpoint to go on from, is gone; restore it");
  refused(folder, resume, "--init " + run + "/best.safetensors");
  fs::rename(run + "/sane.safetensors.away", run + "/sane.safetensors");
  refused(folder, resume, "mv " + run + "/sane.safetensors " + last);
  CHECK(read_file(run + "/best.safetensors") == best);
  CHECK(read_text(run + "/log.csv") == log);

  TensorFile checkpoint = read_safetensors(last + ".away");
  *checkpoint.tensors.at("model.conv1.weight").mutable_data<float>() = NAN;
  write_safetensors(last, checkpoint);
  const Outcome outcome = shell(folder, resume);
  CHECK(outcome.code == 1);
  CHECK(contains(outcome.err, "last.safetensors: conv1.weight is not finite"));
  CHECK(!contains(outcome.err, "to go on"));
}

TEST_CASE("advice is given only where it works") {
  const FerFolder folder;
  const std::string run = folder / "run";
  REQUIRE(shell(folder, "$FER " + tiny_run_arguments(folder, "run") + "--steps 1").code == 0);
  const Outcome gone =
      shell(folder, "$FER train --resume --epochs 1000 --out " + run + " & while ! grep -qs ^2, " +
                        run + "/log.csv; do kill -0 $! || exit 9; sleep 0.002; done; rm -rf " +
                        run + "; wait $!");
  CHECK(gone.code == 1);
  CHECK(contains(gone.err, "the run in " + run + " is gone, there is no going on"));
  CHECK(!contains(gone.err, "--resume"));
}

TEST_CASE("what the system refuses is explained") {
  const FerFolder folder;
  const std::string tiny = tiny_run_arguments(folder, "run");
  refused(folder, "$FER train --data " + folder.faces() + " --out /proc/run", "/proc/run: ");
  refused(folder, "$FER train --out " + (folder / "run") + " --data '" + (folder / "caf\xe9") + "'",
          "config.json holds names in UTF-8 only");
  CHECK(!fs::exists(folder / "run"));
  if (cpu::address_sanitizer) return;  // its shadow of the memory is larger than any limit
  refused(folder, "ulimit -v 2000000; $FER " + tiny + "--workers 256",
          "take fewer, with --threads 1");
  refused(folder, "ulimit -v 2000000; $FER train --threads 1024",
          "the system allows no more threads");
}
