// The command line: fer train | evaluate | predict | draw. What these do is in the files of their
// names. Exit code 0, 1 for an error, 2 for a command line that cannot be understood.
#include <CLI/CLI.hpp>
#include <charconv>
#include <csignal>
#include <iostream>
#include <type_traits>

#include "autograd/check.h"
#include "examples/fer/draw.h"
#include "examples/fer/evaluate.h"
#include "examples/fer/predict.h"
#include "examples/fer/setup.h"
#include "examples/fer/train.h"

namespace chalk::fer {
namespace {

// "what it is [20, for the drawn faces 6]"
template <typename T>
std::string with_default(const std::string& help, T Recipe::*value, const std::string& more = {}) {
  std::ostringstream text;
  text << help << " [" << kPublishedRecipe.*value;
  if (kDrawnRecipe.*value != kPublishedRecipe.*value)
    text << ", for the drawn faces " << kDrawnRecipe.*value;
  text << more << "]";
  return text.str();
}

// An option whose value, a Number or an optional one, is written in plain decimal digits. CLI11 by
// itself would read 010 as 8, nothing as 0, and what is too large as the largest number.
template <typename Number, typename Value>
void add_number(CLI::App& app, const std::string& name, Value& value, const std::string& help) {
  constexpr bool whole = std::is_integral_v<Number>;
  const auto parse = [&value, name](const std::string& text) {
    Number number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    const bool fits = error == std::errc() && end == text.data() + text.size();
    if (!fits)
      throw CLI::ConversionError(name + " '" + text + "': expected a " + (whole ? "whole " : "") +
                                 "number, in digits, that the computer can hold");
    value = number;
  };
  CLI::Option* option = app.add_option_function<std::string>(name, parse, help);
  option->type_name(whole ? "INT" : "FLOAT");
  if constexpr (std::is_same_v<Number, Value>) option->default_str(std::to_string(value));
}

void add_train(CLI::App& app, TrainOptions& options) {
  CLI::App& train = *app.add_subcommand("train", "Train the network. Ctrl-C saves and stops");
  train.add_option("--data", options.data,
                   "folder of a data set: RAF-DB as on Kaggle, RAF-DB's own layout, or a folder "
                   "for each class [faces that chalk draws]");
  train.add_option("--out", options.out, "folder of the run [runs/<name of the data set>]");
  train.add_flag("--resume", options.resume, "go on with the run in --out, with its options");
  train.add_option("--init", options.init, "weights to begin with [random]");
  add_number<Index>(train, "--epochs", options.epochs,
                    with_default("epochs without augmentation", &Recipe::epochs));
  add_number<Index>(train, "--augment-epochs", options.augment_epochs,
                    with_default("epochs with augmentation after these", &Recipe::augment_epochs,
                                 "; 0 where --epochs is given"));
  add_number<Index>(train, "--batch", options.batch, with_default("images a step", &Recipe::batch));
  add_number<double>(train, "--lr", options.lr, with_default("learning rate", &Recipe::lr));
  add_number<double>(train, "--weight-decay", options.weight_decay,
                     with_default("decoupled weight decay", &Recipe::weight_decay));
  add_number<Index>(train, "--image-size", options.image_size,
                    "pixels, images are resized to this [224]");
  add_number<Index>(train, "--heads", options.heads, "heads of the self-attention [1]");
  add_number<Index>(train, "--seed", options.seed, "of all random numbers [0]");
  train.add_flag_callback(
      "--no-shuffle", [&options] { options.shuffle = false; },
      "keep the images in the order of the data set's list");
  add_number<Index>(train, "--steps", options.steps,
                    "stop when the run has done this many [no limit]");
  add_number<Index>(train, "--save-every", options.save_every,
                    "steps from one checkpoint to the next");
  train.add_flag("--summary", options.summary, "first print the network, a line for each part");
  train.add_option("--device", options.device, "cpu, cuda, cuda:1 and so on [cpu]");
  add_number<int>(train, "--threads", options.threads, "threads that compute [one for each core]");
  add_number<int>(train, "--workers", options.workers, "threads that prepare images [2]");
}

void add_network(CLI::App& command, std::string& weights, std::optional<Index>& image_size,
                 std::optional<Index>& heads) {
  command.add_option("--weights", weights, "weights, or a checkpoint, of this network")->required();
  add_number<Index>(command, "--image-size", image_size,
                    "pixels [those the weights were trained with]");
  add_number<Index>(command, "--heads", heads,
                    "heads of the self-attention [those of the weights]");
}

void add_machine(CLI::App& command, Machine& machine) {
  command.add_option("--device", machine.device, "cpu, cuda, cuda:1 and so on")
      ->capture_default_str();
  add_number<int>(command, "--threads", machine.threads,
                  "threads that compute; 0: one for each core");
}

void add_evaluate(CLI::App& app, EvaluateOptions& options) {
  CLI::App& evaluate = *app.add_subcommand("evaluate", "Test weights on a data set's test images");
  add_network(evaluate, options.weights, options.image_size, options.heads);
  evaluate.add_option("--data", options.data, "folder of the data set [faces that chalk draws]");
  evaluate.add_option("--predictions", options.predictions, "CSV file, a row an image [none]");
  evaluate.add_option(
      "--out", options.out,
      "folder for the report and the confusion matrix [evaluation/ beside the weights]");
  add_number<Index>(evaluate, "--batch", options.batch, "images at once");
  add_machine(evaluate, options.machine);
  add_number<int>(evaluate, "--workers", options.machine.workers, "threads that prepare images");
}

void add_predict(CLI::App& app, PredictOptions& options) {
  CLI::App& predict = *app.add_subcommand("predict", "Say which expression is on faces");
  predict
      .add_option("images", options.images,
                  "image files: one upright face fills each (as stored: EXIF is not read)")
      ->required();
  add_network(predict, options.weights, options.image_size, options.heads);
  predict.add_flag("--json", options.json, "print a JSON array");
  add_machine(predict, options.machine);
}

void add_draw(CLI::App& app, DrawOptions& options, std::string& sheet) {
  CLI::App& draw = *app.add_subcommand("draw", "Draw a data set of faces, or a sheet of them");
  draw.add_option("--out", options.directory, "folder for the data set, in RAF-DB's layout");
  add_number<Index>(draw, "--train", options.train_images, "images to learn from");
  add_number<Index>(draw, "--test", options.test_images, "images to test with");
  add_number<std::uint64_t>(draw, "--seed", options.seed, "of all that varies");
  draw.add_option("--sheet", sheet, "PNG file: the seven expressions of twelve people");
}

void draw(const DrawOptions& options, const std::string& sheet) {
  check(!options.directory.empty() || !sheet.empty(),
        "draw: name a folder for a data set with --out, or a file for a picture with --sheet");
  if (!options.directory.empty()) {
    draw_dataset(options);
    std::cout << "written: " << options.train_images << " faces to learn from and "
              << options.test_images << " to test with, in " << options.directory << '\n';
  }
  if (!sheet.empty()) {
    write_png(sheet, contact_sheet(12, options.seed));
    std::cout << "written: the seven expressions of twelve people, in " << sheet << '\n';
  }
}

void run(int argc, char** argv) {
  CLI::App app("Reads facial expressions: trains a ResNet with attention, tests it, uses it.",
               "fer");
  app.footer("fer SUBCOMMAND --help lists its options");
  app.require_subcommand(1);
  TrainOptions train_options;
  train_options.program = argv[0];
  EvaluateOptions evaluate_options;
  PredictOptions predict_options;
  DrawOptions draw_options;
  std::string sheet;
  add_train(app, train_options);
  add_evaluate(app, evaluate_options);
  add_predict(app, predict_options);
  add_draw(app, draw_options, sheet);
  // --data "$DATA" where there is no such variable must not mean that no --data is given.
  const auto is_given = [](const std::string& text) {
    return text.empty() ? std::string("its value is empty") : std::string();
  };
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; }))
    for (CLI::Option* option : command->get_options())
      option->check(is_given);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    app.exit(help);
    return;
  }
  if (app.got_subcommand("train")) train(train_options);
  if (app.got_subcommand("evaluate")) evaluate(evaluate_options);
  if (app.got_subcommand("predict")) predict(predict_options);
  if (app.got_subcommand("draw")) draw(draw_options, sheet);
}

}  // namespace
}  // namespace chalk::fer

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file over the size limit is an error of write(), with message
  try {
    chalk::fer::run(argc, argv);
    chalk::check(std::cout.flush().good(), "cannot write to standard output; is the disk full?");
    return 0;
  } catch (const CLI::ParseError& error) {
    std::cerr << "fer: " << error.what()
              << "; fer --help and fer COMMAND --help say what there is\n";
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "fer: " << chalk::fer::message_of(error) << '\n';
    return 1;
  }
}
