#include "examples/fer/train.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>

#include "autograd/check.h"
#include "autograd/node.h"
#include "data/data_loader.h"
#include "data/files.h"
#include "data/pictures.h"
#include "examples/fer/evaluate.h"
#include "examples/fer/progress.h"

namespace chalk::fer {

namespace fs = std::filesystem;

namespace {

class Run {
 public:
  Run(const TrainOptions& options, const Config& config, const FaceSets& faces, Device device);

  // Opens the logs; goes on from the last checkpoint if there is one.
  void open();

  // To the recipe's end. Returns false if asked to stop before, by a signal or --steps.
  bool train();

  const RunState& state() const { return state_; }
  const FerNet& model() const { return model_; }

 private:
  bool train_epoch();
  bool test_epoch();
  double train_step(const Batch& batch);
  void log_step(double loss, Index images);
  void log_epoch(const Evaluation& test);
  void save();
  DataLoaderOptions loader_options(bool training) const;
  std::string epoch_name() const;
  double train_loss() const { return state_.loss_sum / static_cast<double>(state_.images); }
  double train_accuracy() const {
    return static_cast<double>(state_.correct) / static_cast<double>(state_.images);
  }
  Index epochs() const { return config_.recipe.epochs + config_.recipe.augment_epochs; }
  std::string file(const char* name) const { return options_.out + "/" + name; }

  const TrainOptions options_;
  const Config config_;
  const FaceSets faces_;
  const Device device_;

  FerNet model_;
  std::optional<AdamW> optimizer_;  // made when the model is on its device
  DataLoader train_images_, test_images_;
  RunState state_;

  std::optional<CsvLog> step_log_, epoch_log_;
  ProgressLine progress_;
  Stopwatch run_watch_, epoch_watch_, step_watch_;
  Index first_step_ = 0;  // of this program's part of the run
};

Run::Run(const TrainOptions& options, const Config& config, const FaceSets& faces, Device device)
    : options_(options),
      config_(config),
      faces_(faces),
      device_(device),
      model_(config.network.heads),
      train_images_(faces.train, loader_options(true)),
      test_images_(faces.test, loader_options(false)) {
  if (!config.init.empty() && !fs::exists(file("last.safetensors")))
    load_weights(config.init, model_);
  model_.to(device);
  optimizer_.emplace(model_.parameters(), AdamWOptions{.weight_decay = config.recipe.weight_decay});
}

// Weights that are not finite must not replace good ones in a checkpoint.
void check_finite(const FerNet& model, Index step) {
  NoGrad no_grad;
  for (const auto& list : {model.named_parameters(), model.named_buffers()})
    for (const Module::Named& entry : list)
      check(!entry.tensor.is_floating() || std::isfinite(sum(entry.tensor).item()), "step ", step,
            ": ", entry.name, " is not finite any more, training cannot go on; a smaller learning ",
            "rate may help: --lr");
}

Index count_correct(const Tensor& logits, const Tensor& labels) {
  const std::vector<Index> answers = argmax(logits).to_vector<Index>();
  const std::vector<Index> truths = labels.to_vector<Index>();
  Index count = 0;
  for (std::size_t i = 0; i < truths.size(); ++i)
    count += answers[i] == truths[i];
  return count;
}

// ---- the recipe ----

bool Run::train() {
  bool going_on = true;
  while (going_on && state_.epoch < epochs())
    going_on = train_epoch() && test_epoch();
  progress_.clear();
  return going_on;
}

bool Run::train_epoch() {
  train_images_.start_epoch(static_cast<std::uint64_t>(state_.epoch), state_.batch);
  model_.train();
  while (const std::optional<Batch> batch = train_images_.next()) {
    if (stop_requested() || (options_.steps && state_.step >= *options_.steps)) {
      save();
      return false;
    }
    optimizer_->set_lr(learning_rate(config_.recipe, state_.step, train_images_.batch_count()));
    log_step(train_step(*batch), batch->labels.numel());
    if (state_.step % options_.save_every == 0) save();
  }
  return true;
}

double Run::train_step(const Batch& batch) {
  const Tensor logits = model_(batch.floats(device_));
  const Tensor loss = cross_entropy(logits, batch.labels.to(device_));
  optimizer_->zero_grad();
  loss.backward();
  optimizer_->step();

  const double value = loss.item();  // waits for the device: the step ends here
  check(std::isfinite(value), "step ", state_.step + 1, ": the loss is ", value,
        ", training cannot go on; a smaller learning rate may help: --lr ", optimizer_->lr() / 10);
  ++state_.step;
  ++state_.batch;
  state_.images += batch.labels.numel();
  state_.correct += count_correct(logits.to(Device::cpu), batch.labels);
  state_.loss_sum += value * static_cast<double>(batch.labels.numel());
  return value;
}

bool Run::test_epoch() {
  const std::optional<Evaluation> test = evaluate(model_, test_images_, device_, progress_);
  if (!test) {  // asked to stop: the epoch is tested when the run goes on
    save();
    return false;
  }
  log_epoch(*test);
  const double accuracy = test->confusion.accuracy();
  ++state_.epoch;
  if (accuracy > state_.best_accuracy) {
    state_.best_accuracy = accuracy;
    state_.best_epoch = state_.epoch;
    save_weights(file("best.safetensors"), config_.network, model_, state_);
    write_report(options_.out, test->confusion);
  }
  state_.batch = state_.images = state_.correct = 0;
  state_.loss_sum = 0;
  save();
  return true;
}

DataLoaderOptions Run::loader_options(bool training) const {
  DataLoaderOptions options{.batch_size = config_.recipe.batch,
                            .height = config_.network.image_size,
                            .width = config_.network.image_size,
                            .shuffle = training && config_.shuffle,
                            .plain_epochs = static_cast<std::uint64_t>(config_.recipe.epochs),
                            .seed = static_cast<std::uint64_t>(config_.seed),
                            .workers = config_.machine.workers,
                            .bytes = device_ != Device::cpu};
  if (training) options.augmentation = Augmentation{};
  // The two loaders share the memory as they share the images.
  const std::size_t images = (training ? faces_.train : faces_.test).size();
  options.memory_bytes = options.memory_bytes * static_cast<Index>(images) /
                         static_cast<Index>(faces_.train.size() + faces_.test.size());
  return options;
}

// ---- what is kept, what is told ----

void Run::open() {
  if (fs::exists(file("last.safetensors")))
    state_ = load_checkpoint(file("last.safetensors"), model_, *optimizer_);
  else
    save();
  first_step_ = state_.step;
  step_log_.emplace(file("log.csv"), "step,epoch,loss,lr,images_per_second", state_.step);
  epoch_log_.emplace(file("epochs.csv"),
                     "epoch,train_loss,test_loss,train_accuracy,test_accuracy,mean_recall,seconds",
                     state_.epoch);
}

void Run::save() {
  check_finite(model_, state_.step);
  save_checkpoint(file("last.safetensors"), config_.network, model_, *optimizer_, state_);
  step_watch_.lap();  // the next step's time is its own
}

std::string Run::epoch_name() const {
  return "epoch " + std::to_string(state_.epoch + 1) + "/" + std::to_string(epochs());
}

void Run::log_step(double loss, Index images) {
  const double images_per_second = static_cast<double>(images) / step_watch_.lap();
  step_log_->add(std::to_string(state_.step) + "," + std::to_string(state_.epoch + 1) +
                 format(",%#.7g,%.7g,%.1f", loss, optimizer_->lr(), images_per_second));
  const Index batches = train_images_.batch_count();
  const auto steps_here = static_cast<double>(state_.step - first_step_);
  const Index all_steps = epochs() * batches;
  const Index last_step = std::min(all_steps, options_.steps.value_or(all_steps));
  const auto steps_left = static_cast<double>(last_step - state_.step);
  progress_.update(epoch_name(), state_.batch, batches,
                   format("loss %.4f  accuracy %.1f %%  %.1f images/s  ", train_loss(),
                          100 * train_accuracy(), images_per_second) +
                       format_time(run_watch_.seconds() / steps_here * steps_left) + " left");
}

void Run::log_epoch(const Evaluation& test) {
  const double accuracy = test.confusion.accuracy(), seconds = epoch_watch_.lap();
  epoch_log_->add(std::to_string(state_.epoch + 1) +
                  format(",%.7g,%.7g,%.7g,%.7g,%.7g,%.1f", train_loss(), test.loss,
                         train_accuracy(), accuracy, test.confusion.mean_recall(), seconds));
  progress_.print(epoch_name() +
                  format(": loss %.4f, accuracy %.2f %%; test %.4f, %.2f %%%s; ", train_loss(),
                         100 * train_accuracy(), test.loss, 100 * accuracy,
                         accuracy > state_.best_accuracy ? " (best)" : "") +
                  format_time(seconds));
  write_png(file("loss.png"), draw_curves("loss", {{"train", epoch_log_->column(1)},
                                                   {"test", epoch_log_->column(2)}}));
  write_png(file("accuracy.png"), draw_curves("accuracy", {{"train", epoch_log_->column(3)},
                                                           {"test", epoch_log_->column(4)}}));
}

}  // namespace

// ---- the command ----

// A run that goes on must find the images it began with: its place in an epoch counts on them.
static void check_images(Config& config, const FaceSets& faces) {
  const auto images = static_cast<Index>(faces.train.size());
  check(config.train_images == 0 || config.train_images == images, config.data, " has ", images,
        " images to learn from, the run began with ", config.train_images,
        "; name its data set with --data, or begin a new run");
  config.train_images = images;
}

static void print_plan(const TrainOptions& options, const Config& config, const RunState& state) {
  const Recipe& recipe = config.recipe;
  std::cout << "recipe: " << recipe.name << "\n        " << recipe.epochs << " epochs, then "
            << recipe.augment_epochs << " with augmentation; batches of " << recipe.batch
            << "\n        AdamW, learning rate " << recipe.lr
            << (recipe.cosine ? " after a warm-up, falling to 0 along a cosine" : "")
            << ", weight decay " << recipe.weight_decay << "\nrun:    " << options.out;
  if (state.step > 0) std::cout << ", going on after step " << state.step;
  std::cout << std::endl;
}

static void print_results(const TrainOptions& options, const Config& config, const FaceSets& faces,
                          Index best_epoch) {
  const std::vector<std::uint8_t> report = read_file(options.out + "/report.txt");
  std::cout << "\nepoch " << best_epoch << " was the best on the test images:\n\n"
            << std::string(report.begin(), report.end()) << "\nin " << options.out << R"( are
  best.safetensors                           its weights; PyTorch can load them
  report.txt, confusion.png, confusion.csv   what is above
  loss.png, accuracy.png                     curves over the epochs
  log.csv, epochs.csv                        a row a step, a row an epoch
  last.safetensors, config.json              all it takes to go on

)";
  const std::string program = shell_word(options.program);
  const std::string weights = " --weights " + shell_word(options.out + "/best.safetensors");
  const bool drawn = config.data.empty();
  std::cout << "to try next:\n  " << program << " predict" << weights << ' '
            << shell_word(faces.test.front().path) << "\n  " << program << " evaluate" << weights
            << (drawn ? "" : " --data " + shell_word(config.data))
            << " --predictions predictions.csv\n";
  if (drawn) std::cout << "  " << program << " train --data PATH/RAF-DB\n";
}

static void print_end(const TrainOptions& options, const Config& config, const FaceSets& faces,
                      const RunState& state, bool finished) {
  if (finished) return print_results(options, config, faces, state.best_epoch);
  if (state.best_epoch > 0)
    std::cout << format("best:   %.2f %% of the test images, after epoch %lld\n",
                        100 * state.best_accuracy, static_cast<long long>(state.best_epoch));
  std::cout << "stopped after step " << state.step
            << ", everything is saved; to go on: " << resume_command(options) << '\n';
}

void train(const TrainOptions& given) {
  TrainOptions options = given;
  options.out = run_folder(given);
  Config config = configure(options);
  const Device device = use_machine(config.machine);
  const FaceSets faces = open_faces(config.data, true);
  check_images(config, faces);

  manual_seed(static_cast<std::uint64_t>(config.seed));
  Run run(options, config, faces, device);
  if (options.resume)
    save_config(options.out, config);
  else
    create_run(options.out, config);
  catch_stop_signals();
  try {
    run.open();
    if (options.summary) std::cout << run.model();
    print_plan(options, config, run.state());
    const bool finished = run.train();
    print_end(options, config, faces, run.state(), finished);
  } catch (const std::exception& error) {
    fail(error.what(), "\nNothing that was saved is lost; to go on from the last checkpoint: ",
         resume_command(options));
  }
}

}  // namespace chalk::fer
