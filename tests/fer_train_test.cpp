// A training run: what it writes, and that stopping, killing and resuming it changes no bit.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "autograd/check.h"
#include "data/safetensors.h"
#include "examples/fer/evaluate.h"
#include "examples/fer/predict.h"
#include "examples/fer/progress.h"
#include "examples/fer/train.h"
#include "tests/fer_testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

std::vector<std::string> lines_of(const fs::path& path) {
  std::istringstream text(read_text(path));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);)
    lines.push_back(line);
  return lines;
}

// The rows without their last value, which is a time or a speed.
std::vector<std::string> rows_without_times(const fs::path& path) {
  std::vector<std::string> rows = lines_of(path);
  for (std::string& row : rows)
    row.resize(row.rfind(','));
  return rows;
}

// Every bit, but for times.
void check_same_run(const std::string& folder, const std::string& unbroken) {
  for (const char* file : {"/best.safetensors", "/last.safetensors"})
    CHECK_MESSAGE(read_file(folder + file) == read_file(unbroken + file), file);
  for (const char* file : {"/log.csv", "/epochs.csv"})
    CHECK(rows_without_times(folder + file) == rows_without_times(unbroken + file));
  CHECK(read_text(folder + "/confusion.csv") == read_text(unbroken + "/confusion.csv"));
}

// A line of shell: a command, sent a signal as soon as a condition, a command too, holds.
std::string signalled(const std::string& command, const std::string& condition,
                      const std::string& signal) {
  return command + " & while ! " + condition +
         "; do kill -0 $! || exit 9; sleep 0.002; done; kill -" + signal + " $!; wait $!";
}

// What stands between two parts of a text, which must be in it.
std::string between(const std::string& text, const std::string& before, const std::string& after) {
  CAPTURE(text);
  std::size_t begin = text.find(before);
  REQUIRE(begin != std::string::npos);
  begin += before.size();
  const std::size_t end = text.find(after, begin);
  REQUIRE(end != std::string::npos);
  return text.substr(begin, end - begin);
}

// Returns what it would have printed.
std::string train_quietly(const fer::TrainOptions& options) {
  CapturedOutput output;
  fer::train(options);
  return output.text();
}

}  // namespace

TEST_CASE("a run is named after its data set") {
  const auto folder_of = [](const std::string& data, const std::string& out = "") {
    fer::TrainOptions options;
    options.data = data;
    options.out = out;
    return fer::run_folder(options);
  };
  CHECK(folder_of("") == "runs/drawn");
  CHECK(folder_of("some/RAF-DB") == "runs/RAF-DB");
  CHECK(folder_of(CHALK_FIXTURES "/") == "runs/fixtures");
  CHECK(folder_of("", "here/run/") == "here/run");
}

TEST_CASE("learning rates: constant, and a warm-up followed by a cosine") {
  CHECK(fer::learning_rate(fer::kPublishedRecipe, 0, 384) == 0.001);
  CHECK(fer::learning_rate(fer::kPublishedRecipe, 20000, 384) == 0.001);
  fer::Recipe recipe = fer::kDrawnRecipe;
  recipe.epochs = 5;
  recipe.augment_epochs = 0;
  recipe.lr = 1;
  recipe.warmup_epochs = 1;
  CHECK(fer::learning_rate(recipe, 0, 10) == doctest::Approx(0.1));
  CHECK(fer::learning_rate(recipe, 9, 10) == doctest::Approx(1));
  CHECK(fer::learning_rate(recipe, 10, 10) == doctest::Approx(1));
  CHECK(fer::learning_rate(recipe, 30, 10) == doctest::Approx(0.5));
  CHECK(fer::learning_rate(recipe, 50, 10) == doctest::Approx(0));
}

TEST_CASE("figures of the published confusion matrix") {
  fer::Confusion confusion;
  confusion.counts = {{258, 8, 4, 12, 14, 5, 28}, {13, 39, 2, 3, 10, 3, 4},
                      {1, 2, 76, 12, 24, 12, 33}, {8, 0, 14, 1093, 15, 3, 52},
                      {2, 2, 18, 22, 364, 3, 67}, {5, 10, 13, 14, 10, 102, 8},
                      {10, 1, 18, 29, 30, 2, 590}};
  CHECK(confusion.images() == 3068);
  CHECK(confusion.correct() == 2522);
  CHECK(confusion.accuracy() == doctest::Approx(0.8220).epsilon(1e-4));
  CHECK(confusion.mean_recall() == doctest::Approx(0.7096).epsilon(1e-4));
  CHECK(confusion.recall(0) == doctest::Approx(258 / 329.0));
  CHECK(confusion.precision(0) == doctest::Approx(258 / 297.0));
  CHECK(confusion.f1(0) == doctest::Approx(2 * 258 / (329.0 + 297.0)));
  CHECK(fer::Confusion().accuracy() == 0);
  CHECK(fer::Confusion().f1(3) == 0);
}

TEST_CASE("times and logs") {
  CHECK(fer::format_time(7.4) == "0:07");
  CHECK(fer::format_time(59.6) == "1:00");
  CHECK(fer::format_time(7323) == "2:02:03");

  const FerFolder folder;
  const std::string path = folder / "log.csv";
  write_file(path, "step,loss\n1,0.5\n2,0.25\n3,0.125\n4,0.06");  // killed while it wrote row 4
  fer::CsvLog log(path, "step,loss", 2);
  log.add("3,0.75");
  CHECK(read_text(path) == "step,loss\n1,0.5\n2,0.25\n3,0.75\n");
  CHECK(log.column(1) == std::vector<double>{0.5, 0.25, 0.75});
}

TEST_CASE("what a run leaves, and the same run stopped, killed and resumed") {
  const FerFolder folder;
  const std::string unbroken = folder / "unbroken";
  train_quietly(tiny_run(folder, "unbroken"));
  fer::TrainOptions resumed;
  resumed.resume = true;

  {
    INFO("what it leaves");
    const std::vector<std::string> log = lines_of(unbroken + "/log.csv");
    REQUIRE(log.size() == 1 + 6);
    CHECK(log[0] == "step,epoch,loss,lr,images_per_second");
    for (int step = 1; step <= 6; ++step) {
      const std::string& row = log[static_cast<std::size_t>(step)];
      const std::string begin = fer::format("%d,%d,", step, (step + 2) / 3);
      CHECK(row.find_first_not_of("0123456789.,") == std::string::npos);
      CHECK(std::count(row.begin(), row.end(), ',') == 4);
      CHECK(row.starts_with(begin));
      CHECK(between(row, begin, ",0.001,").size() == 8);     // the loss
      CHECK(std::stod(row.substr(row.rfind(',') + 1)) > 0);  // the speed
    }
    CHECK(lines_of(unbroken + "/epochs.csv").size() == 1 + 2);

    const TensorFile best = read_safetensors(unbroken + "/best.safetensors");
    CHECK(best.tensors.size() == FerNet().state_dict().size());
    CHECK(best.tensors.at("conv1.weight").shape() == Shape{64, 3, 7, 7});
    CHECK(best.metadata.at("image_size") == "81");
    CHECK(best.metadata.at("heads") == "1");
    CHECK(best.metadata.count("epoch") == 1);
    CHECK(best.metadata.count("accuracy") == 1);
    CHECK(best.metadata.at("class_names").starts_with("[\"surprise\",\"fear\","));
    for (const char* picture : {"/loss.png", "/accuracy.png", "/confusion.png"})
      CHECK(read_image(unbroken + picture).width > 100);
  }

  {
    INFO("stopped in the middle of an epoch and between two, on other threads");
    fer::TrainOptions options = tiny_run(folder, "stopped");
    options.steps = 1;
    const std::string told = train_quietly(options);
    for (const char* name : {"last.safetensors", "config.json", "log.csv", "train --resume --out "})
      CHECK(contains(told.substr(told.find("stopped after step 1")), name));
    CHECK(lines_of(options.out + "/log.csv").size() == 1 + 1);
    resumed.out = options.out;
    resumed.steps = 3;
    resumed.threads = 2;
    resumed.workers = 0;
    train_quietly(resumed);
    CHECK(lines_of(options.out + "/log.csv").size() == 1 + 3);
    resumed.steps.reset();
    resumed.threads = 1;
    resumed.workers = 3;
    train_quietly(resumed);
    check_same_run(options.out, unbroken);
    train_quietly(resumed);  // there is nothing left to do
    check_same_run(options.out, unbroken);
  }

  {
    INFO("killed, and again and again while it is resumed");
    resumed.out = folder / "killed";
    std::string command = "$FER " + tiny_run_arguments(folder, "killed");
    const auto exists = [&](const std::string& name) {
      return "[ -e " + resumed.out + name + " ]";
    };
    const auto logged = [&](const std::string& step) {
      return "grep -qs ^" + step + ", " + resumed.out + "/log.csv";
    };
    for (const std::string& moment :
         {exists("/config.json"),           // before the first checkpoint
          exists("/last.safetensors"),      // at step 0
          logged("1"),                      // between two checkpoints
          exists("/last.safetensors.tmp"),  // while it saves
          logged("3"),                      // while it tests an epoch
          exists("/best.safetensors"),      // when the best weights are newer than the checkpoint
          logged("5")}) {
      CAPTURE(moment);
      CHECK(shell(folder, signalled(command, moment, "KILL")).code == 128 + 9);
      command = "$FER train --save-every 2 --resume --out " + resumed.out;
    }
    train_quietly(resumed);
    check_same_run(resumed.out, unbroken);
  }

  {
    INFO("stopped by each signal, then resumed by the command that it says");
    std::string command = "$FER " + tiny_run_arguments(folder, "stopped by signals");
    const std::string log = "grep -qs ^%d, '" + (folder / "stopped by signals") + "/log.csv'";
    int step = 0;
    for (const char* signal : {"INT", "TERM", "HUP"}) {
      const Outcome outcome =
          shell(folder, signalled(command, fer::format(log.c_str(), ++step), signal));
      CHECK(outcome.code == 0);
      CHECK(outcome.err == "");
      CHECK(!contains(outcome.out, "\033"));
      step = std::stoi(between(outcome.out, "stopped after step ", "; saved in "));
      CHECK(step >= 1);
      CHECK(step <= 5);
      command = between(outcome.out, "\nto go on: ", "\n");
    }
    CHECK(shell(folder, command).code == 0);
    check_same_run(folder / "stopped by signals", unbroken);
  }
}

TEST_CASE("a run that is done says what is where and what to try next, and that works") {
  const FerFolder folder;
  const Outcome outcome =
      shell(folder, "$FER train --epochs 1 --batch 5 --threads 1 --image-size 81 --data " +
                        folder.faces() + " --out " + (folder / "run"));
  CHECK(outcome.code == 0);
  CHECK(contains(outcome.out, "epoch 1 was the best on the test images"));
  CHECK(contains(outcome.out, "mean of the classes' recalls"));
  for (const auto& entry : fs::directory_iterator(folder / "run"))
    CHECK(contains(outcome.out, entry.path().filename().string()));
  std::istringstream commands(outcome.out.substr(outcome.out.find("to try next:")));
  std::string line;
  std::getline(commands, line);
  int count = 0;
  for (; std::getline(commands, line); ++count) {
    CAPTURE(line);
    CHECK(shell(folder, "cd " + (folder / "") + "; " + line).code == 0);
  }
  CHECK(count == 2);
  CHECK(fs::exists(folder / "predictions.csv"));
}

TEST_CASE("without shuffling a run begins with the first images of the list") {
  const FerFolder folder;
  fer::TrainOptions options = tiny_run(folder, "weights");
  options.steps = 1;
  CHECK(!contains(train_quietly(options), "Conv2d"));
  const std::string weights = options.out + "/last.safetensors";

  options = tiny_run(folder, "ordered/");  // as the shell completes names
  options.data += "/";
  options.init = weights;
  options.shuffle = false;
  options.seed = 7;
  options.steps = 1;
  options.summary = true;
  const std::string printed = train_quietly(options);
  CHECK(contains(printed, "conv1: Conv2d(3 -> 64, kernel 7x7, stride 2, padding 3)"));
  CHECK(contains(printed, "3,273,363\n"));

  FerNet model;
  fer::load_weights(weights, model);
  const std::vector<LabeledImage> listed = find_faces(folder.faces()).train;
  DataLoader first({listed.begin(), listed.begin() + 5},
                   {.batch_size = 5, .height = 81, .width = 81, .shuffle = false});
  first.start_epoch(0);
  const Batch batch = *first.next();
  CHECK(batch.labels.to_vector<Index>() == std::vector<Index>{0, 0, 1, 1, 2});
  const double loss = cross_entropy(model(batch.images), batch.labels).item();
  CHECK(lines_of(options.out + "/log.csv").at(1).starts_with(fer::format("1,1,%#.7g,", loss)));
}

TEST_CASE("draw says what it wrote") {
  const FerFolder folder;
  const std::string drawn = folder / "drawn/", sheet = folder / "sheet.png";
  const Outcome outcome =
      shell(folder, "$FER draw --train 9 --test 8 --out " + drawn + " --sheet " + sheet);
  CHECK(outcome.code == 0);
  CHECK(contains(outcome.out, "9 faces to learn from and 8 to test with, in " + drawn));
  CHECK(contains(outcome.out, sheet));
  CHECK(find_faces(drawn, false).test.size() == 8);
  CHECK(read_image(sheet).width == 1200);
}

TEST_CASE("evaluation and prediction agree with each other") {
  const FerFolder folder;
  fer::TrainOptions options = tiny_run(folder, "run");
  options.steps = 1;
  options.heads = 4;
  train_quietly(options);

  fer::EvaluateOptions evaluation;
  evaluation.weights = options.out + "/last.safetensors";
  evaluation.data = folder.faces();
  evaluation.predictions = folder / "predictions.csv";
  evaluation.batch = 3;
  evaluation.machine.threads = 1;
  {
    CapturedOutput output;
    fer::evaluate(evaluation);
    CHECK(contains(output.text(), "mean of the classes' recalls"));
  }
  CHECK(lines_of(options.out + "/evaluation/confusion.csv").size() == 1 + 7);
  CHECK(read_image(options.out + "/evaluation/confusion.png").width > 100);

  const std::vector<std::string> rows = lines_of(evaluation.predictions);
  REQUIRE(rows.size() == 1 + 7);
  CHECK(rows[0] == "image,label,predicted,p1,p2,p3,p4,p5,p6,p7");
  const fer::CsvLog table(evaluation.predictions, rows[0], std::numeric_limits<Index>::max());
  for (std::size_t i = 0; i < 7; ++i) {
    CHECK(rows[i + 1].starts_with("test" + std::to_string(i) + ".jpg," + std::to_string(i + 1)));
    double sum = 0;
    for (std::size_t k = 1; k <= 7; ++k)
      sum += table.column(2 + k)[i];
    CHECK(sum == doctest::Approx(1).epsilon(1e-6));
    const auto predicted = static_cast<std::size_t>(table.column(2)[i]);
    CHECK(table.column(2 + predicted)[i] >= 1.0 / 7);
  }

  fer::PredictOptions prediction;
  prediction.weights = evaluation.weights;
  prediction.images = {folder.faces() + "/DATASET/test/1/test0.jpg"};
  prediction.json = true;
  prediction.machine.threads = 1;
  CapturedOutput output;
  fer::predict(prediction);
  CHECK(std::stod(between(output.text(), "\"surprise\": ", ",")) ==
        doctest::Approx(table.column(3)[0]).epsilon(1e-5));
}

TEST_CASE("a loss that is not finite ends the run and keeps the last good checkpoint") {
  const FerFolder folder;
  fer::TrainOptions options = tiny_run(folder, "run");
  options.steps = 1;
  train_quietly(options);
  // A moment that is infinite makes weights nan in step 2, which shows in the loss of step 3.
  const std::string last = options.out + "/last.safetensors";
  TensorFile checkpoint = read_safetensors(last);
  *checkpoint.tensors.at("optimizer.0.m").mutable_data<float>() = INFINITY;
  write_safetensors(last, checkpoint);
  const auto before = read_file(last);

  fer::TrainOptions resumed;
  resumed.out = options.out;
  resumed.resume = true;
  resumed.save_every = 100;
  CHECK_THROWS_WITH_AS(train_quietly(resumed), doctest::Contains("step 3: the loss is"), Error);
  CHECK(read_file(last) == before);
  resumed.save_every = 1;
  CHECK_THROWS_WITH_AS(train_quietly(resumed),
                       doctest::Contains("step 2: conv1.weight is not finite"), Error);
  CHECK(read_file(last) == before);
}

TEST_CASE("of a run that diverges a checkpoint from before stays, and the run goes on from it") {
  const FerFolder folder;
  const std::string run = folder / "run", last = run + "/last.safetensors";
  const std::string sane = run + "/sane.safetensors", resume = "$FER train --resume --out " + run;
  REQUIRE(shell(folder,
                "$FER train --epochs 1 --batch 2 --threads 1 --image-size 81 --steps 2 --data " +
                    folder.faces() + " --out " + run)
              .code == 0);
  const auto good = read_file(last);

  // The first step this large makes the weights huge; the loss of the next one shows it. So the
  // checkpoint after it, of which no loss is known when it is written, must not count as sane.
  const Outcome diverged = shell(folder, resume + " --lr 10 --save-every 1 --steps 6");
  CHECK_MESSAGE(diverged.code == 0, diverged.err);
  CHECK(contains(diverged.out, "step 4: the loss is "));
  CHECK(contains(diverged.out, "sane.safetensors stays the checkpoint before that"));
  CHECK(read_file(sane) == good);
  CHECK(read_file(last) != good);

  // What it says to do, at the end and when it goes on regardless.
  const std::string command = between(diverged.out, "at a smaller learning rate: ", "\n");
  CHECK(contains(command, " --lr 1"));
  CHECK(contains(command, "mv " + sane + " " + last + " && "));
  const Outcome back = shell(folder, command + " --steps 2");
  CHECK_MESSAGE(back.code == 0, back.err);
  CHECK(contains(back.out, "going on after step 2\n"));
  CHECK(read_file(last) == good);
  CHECK(lines_of(run + "/log.csv").size() == 1 + 2);
}

TEST_CASE("a second process is kept out of a run, until the first ends in whatever way") {
  const FerFolder folder;
  const std::string run = folder / "run";
  REQUIRE(shell(folder, "$FER " + tiny_run_arguments(folder, "run") + "--steps 1").code == 0);
  const std::string resume = "$FER train --resume --out " + run;
  const Outcome second = shell(
      folder, signalled(resume + " --epochs 1000 >/dev/null", "grep -qs ^2, " + run + "/log.csv",
                        "0 $!; echo $!; " + resume + "; kill -KILL"));
  CHECK(second.code == 128 + 9);
  const std::string first = std::to_string(std::stoi(second.out));
  CHECK(contains(second.err, run + " is in use by another process, number " + first + ";"));
  write_file(run + "/best.safetensors.tmp", "what was being written");
  CHECK(shell(folder, resume + " --steps 4").code == 0);
  for (const auto& entry : fs::directory_iterator(run))
    CHECK(entry.path().extension() != ".tmp");
}

TEST_CASE("a run goes on from another working directory") {
  const FerFolder folder;
  const std::string here = "cd " + (folder / "") + "; ";
  const std::string begin =
      "$FER train --data faces --out run --batch 5 --threads 1 --image-size 81";
  REQUIRE(shell(folder, here + begin + " --steps 1").code == 0);
  const Outcome resumed =
      shell(folder, here + "cd faces; $FER train --resume --out ../run --steps 2");
  CHECK_MESSAGE(resumed.code == 0, resumed.err);
}

TEST_CASE("two first runs at once draw the faces and both have them") {
  const FerFolder folder;
  const auto run = [](const std::string& out) {
    return "$FER train --steps 1 --batch 1 --threads 1 --image-size 81 --out " + out;
  };
  const std::string killed = "data-cache/drawn-v1-seed1-1216-304.4194304.tmp";
  const Outcome both = shell(folder, "cd " + (folder / "") + "; mkdir -p " + killed + "; " +
                                         run("a") + " & " + run("b") + " && wait $!");
  CHECK_MESSAGE(both.code == 0, both.err);
  CHECK(find_faces(folder / "data-cache/drawn-v1-seed1-1216-304").train.size() == 1216);
  CHECK(std::distance(fs::directory_iterator(folder / "data-cache"), {}) == 1);
}

TEST_CASE("names of images with commas, quotes and line breaks are quoted in the predictions") {
  const FerFolder folder;
  const std::string name = "a,\"b\"\nc.jpg", out = folder / "p.csv";
  fs::create_directories(folder / "classes/test/sad");
  fs::copy(folder.faces() + "/DATASET/test/5/test4.jpg", folder / "classes/test/sad/" + name);
  fer::save_weights(folder / "w.safetensors", {.image_size = 81}, FerNet(), {});
  const Outcome outcome =
      shell(folder, "$FER evaluate --threads 1 --weights " + (folder / "w.safetensors") +
                        " --data " + (folder / "classes") + " --predictions " + out);
  CHECK_MESSAGE(outcome.code == 0, outcome.err);
  CHECK(contains(read_text(out), "\n\"a,\"\"b\"\"\nc.jpg\",5,"));
}
