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
#include "optim/captured_step.h"

namespace chalk::fer {

namespace fs = std::filesystem;

namespace {

constexpr char kLast[] = "/last.safetensors", kSane[] = "/sane.safetensors",
               kBest[] = "/best.safetensors";

// A loss above this is not sane: ten times that of a network that gives each class the same
// probability. One that only learns badly is far below.
const double kSaneLoss = 10 * std::log(kExpressions);

// How many steps a GPU may be ahead of what is known of their losses: reading one means waiting.
constexpr std::size_t kStepsAhead = 8;

// Of one step, on the device.
struct StepResult {
  Tensor logits, loss;
};

// A step that has been taken, but whose result is not read yet.
struct Outcome {
  StepResult result;
  Tensor labels;
  Index step, batch;  // its numbers, from 1: in the run, in the epoch
  double lr;
};

class Run {
 public:
  Run(const TrainOptions& options, const Config& config, const FaceSets& faces, Device device);

  // Creates the run's folder, with its options and the checkpoint at step 0: all or nothing.
  void create();

  // Takes over where the run's last checkpoint stands.
  void load();

  // Opens the logs, which end at the step where the run stands.
  void open_logs();

  // To the recipe's end. Returns false if asked to stop before, by a signal or --steps.
  bool train();

  const RunState& state() const { return state_; }
  const FerNet& model() const { return model_; }

  // Whether the loss of the last checkpoint's weights is sane. Where no step has told yet, whether
  // the losses before it were and the run has not `diverged` since.
  bool last_is_sane(bool diverged = false) const {
    return last_is_sane_.value_or(worst_loss_ <= kSaneLoss && !diverged);
  }

 private:
  bool train_epoch();
  bool test_epoch();
  void train_step(const Batch& batch);
  StepResult compute(const Tensor& images, const Tensor& labels);
  StepResult compute_recorded(const Tensor& images, const Tensor& labels);
  void take_outcomes();
  void log_step(const Outcome& outcome, double loss, double seconds);
  void log_epoch(const Evaluation& test);
  void save();
  void judge(const Outcome& outcome, double loss);
  DataLoaderOptions loader_options(bool training) const;
  std::string epoch_name() const;
  double train_loss() const { return state_.loss_sum / static_cast<double>(state_.images); }
  double train_accuracy() const {
    return static_cast<double>(state_.correct) / static_cast<double>(state_.images);
  }
  Index epochs() const { return config_.recipe.epochs + config_.recipe.augment_epochs; }
  std::string file(const char* name) const { return options_.out + name; }

  const TrainOptions options_;
  const Config config_;
  const FaceSets faces_;
  const Device device_;

  FerNet model_;
  std::optional<AdamW> optimizer_;  // made when the model is on its device
  Tensor images_, labels_;          // what the recorded step reads, on a GPU
  StepResult recorded_;             // and where it leaves its results
  std::optional<CapturedStep> captured_;
  DataLoader train_images_, test_images_;
  RunState state_;
  std::vector<Outcome> outcomes_;  // of the last steps, which state_ counts, without their results
  double worst_loss_ = 0;          // of the epoch's steps so far
  std::optional<bool> last_is_sane_;  // known from the first step after the checkpoint on

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
  if (!config.init.empty() && !options.resume) load_weights(config.init, model_);
  model_.to(device);
  optimizer_.emplace(model_.parameters(), AdamWOptions{.weight_decay = config.recipe.weight_decay});
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
    train_step(*batch);
    if (device_ == Device::cpu || outcomes_.size() == kStepsAhead) take_outcomes();
    if (state_.step % options_.save_every == 0) save();
  }
  take_outcomes();
  return true;
}

void Run::train_step(const Batch& batch) {
  const Tensor images = batch.floats(device_), labels = batch.labels.to(device_);
  // The last batch of an epoch may be smaller: it is not what was recorded.
  const bool recorded = device_ != Device::cpu && labels.numel() == config_.recipe.batch;
  const StepResult result = recorded ? compute_recorded(images, labels) : compute(images, labels);
  ++state_.step;
  ++state_.batch;
  outcomes_.push_back({result, batch.labels, state_.step, state_.batch, optimizer_->lr()});
}

StepResult Run::compute(const Tensor& images, const Tensor& labels) {
  const Tensor logits = model_(images);
  const Tensor loss = cross_entropy(logits, labels);
  optimizer_->zero_grad();
  loss.backward();
  optimizer_->step();
  return {logits, loss};
}

StepResult Run::compute_recorded(const Tensor& images, const Tensor& labels) {
  if (!captured_) {
    images_ = images.clone();
    labels_ = labels.clone();
    captured_.emplace(model_.tensors(), [this] { recorded_ = compute(images_, labels_); });
  } else {
    images_.copy_from(images);
    labels_.copy_from(labels);
  }
  captured_->run();
  return {recorded_.logits.clone(), recorded_.loss.clone()};  // the next run writes there again
}

// Reads what the steps since the last time came to, which waits for the device.
void Run::take_outcomes() {
  if (outcomes_.empty()) return;
  std::vector<Outcome> outcomes;
  outcomes.swap(outcomes_);
  std::vector<double> losses;
  for (const Outcome& outcome : outcomes)
    losses.push_back(outcome.result.loss.item());
  const double seconds = step_watch_.lap() / static_cast<double>(outcomes.size());
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const Outcome& outcome = outcomes[i];
    judge(outcome, losses[i]);
    const Index images = outcome.labels.numel();
    state_.images += images;
    state_.correct += count_correct(outcome.result.logits.to(Device::cpu), outcome.labels);
    state_.loss_sum += losses[i] * static_cast<double>(images);
    log_step(outcome, losses[i], seconds);
  }
}

// The loss tells how good the weights before the step are. Where they are the last checkpoint's, it
// judges that too: one of an epoch in which the loss left all bounds counts as sane no more.
void Run::judge(const Outcome& outcome, double loss) {
  const double before = outcome.batch == 1 ? 0 : worst_loss_;
  worst_loss_ = std::isfinite(loss) ? std::max(before, loss) : HUGE_VAL;
  if (!last_is_sane_) last_is_sane_ = worst_loss_ <= kSaneLoss;
  const std::string what =
      format("step %lld: the loss is %g", static_cast<long long>(outcome.step), loss);
  if (!std::isfinite(loss)) throw NotFinite(what + ", training cannot go on");
  if (loss > kSaneLoss && before <= kSaneLoss)
    progress_.print(what + format(", above ten times that of guessing (%.1f): until the next epoch "
                                  "sane.safetensors stays the checkpoint before that",
                                  kSaneLoss));
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
    save_weights(file(kBest), config_.network, model_, state_);
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

void Run::create() {
  try {
    write_folder(options_.out, [this](const std::string& unfinished) {
      save_config(unfinished, config_);
      save_checkpoint(unfinished + kLast, config_.network, model_, *optimizer_, state_);
    });
  } catch (const Error& error) {
    fail(error.what(), "; choose another folder with --out");
  }
}

void Run::load() {
  state_ = load_checkpoint(file(kLast), model_, *optimizer_, config_.network);
  const Index epoch_steps = train_images_.batch_count();
  const Index images = std::min(state_.batch * config_.recipe.batch, train_images_.image_count());
  check(state_.step == state_.epoch * epoch_steps + state_.batch && state_.batch <= epoch_steps &&
            state_.images == images,
        file(kLast), ": step ", state_.step, ", epoch ", state_.epoch, ", batch ", state_.batch,
        " and images ", state_.images, " do not fit ", epoch_steps, " steps an epoch, of ",
        config_.recipe.batch, " images; the file is damaged or of another run");
  check(default_generator().seed == static_cast<std::uint64_t>(config_.seed), file(kLast),
        ": generator_seed ", default_generator().seed, ", the run's config.json says seed ",
        config_.seed, "; the file is damaged or of another run");
  if (state_.images > 0) worst_loss_ = train_loss();  // at least
}

void Run::open_logs() {
  first_step_ = state_.step;
  step_log_.emplace(file("/log.csv"), "step,epoch,loss,lr,images_per_second", state_.step);
  epoch_log_.emplace(file("/epochs.csv"),
                     "epoch,train_loss,test_loss,train_accuracy,test_accuracy,mean_recall,seconds",
                     state_.epoch);
}

void Run::save() {
  take_outcomes();
  const std::string damaged = find_not_finite(model_.state_dict());
  if (!damaged.empty())
    throw NotFinite(format("step %lld: %s is not finite any more, training cannot go on",
                           static_cast<long long>(state_.step), damaged.c_str()));
  if (last_is_sane_.value_or(false)) write_file(file(kSane), read_file(file(kLast)));
  save_checkpoint(file(kLast), config_.network, model_, *optimizer_, state_);
  last_is_sane_.reset();
  step_watch_.lap();  // the next step's time is its own
}

std::string Run::epoch_name() const {
  return "epoch " + std::to_string(state_.epoch + 1) + "/" + std::to_string(epochs());
}

void Run::log_step(const Outcome& outcome, double loss, double seconds) {
  const double images_per_second = static_cast<double>(outcome.labels.numel()) / seconds;
  step_log_->add(std::to_string(outcome.step) + "," + std::to_string(state_.epoch + 1) +
                 format(",%#.7g,%.7g,%.1f", loss, outcome.lr, images_per_second));
  const Index batches = train_images_.batch_count();
  const auto steps_here = static_cast<double>(outcome.step - first_step_);
  const Index all_steps = epochs() * batches;
  const Index last_step = std::min(all_steps, options_.steps.value_or(all_steps));
  const auto steps_left = static_cast<double>(last_step - outcome.step);
  progress_.update(epoch_name(), outcome.batch, batches,
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
  write_png(file("/loss.png"), draw_curves("loss", {{"train", epoch_log_->column(1)},
                                                    {"test", epoch_log_->column(2)}}));
  write_png(file("/accuracy.png"), draw_curves("accuracy", {{"train", epoch_log_->column(3)},
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

// A line of shell that brings back the last checkpoint whose loss was sane.
static std::string sane_command(const std::string& run) {
  return "mv " + shell_word(run + kSane) + ' ' + shell_word(run + kLast);
}

// What to do to go on with a run. Advises nothing that cannot work.
static std::string how_to_go_on(const TrainOptions& options, const Config& config,
                                bool last_is_sane, bool diverged = false) {
  const std::string& run = options.out;
  const std::string smaller_lr = format(" --lr %g", config.recipe.lr / 10);
  std::error_code unknown;
  if (!fs::exists(run + kLast, unknown) || !fs::exists(run + "/config.json", unknown))
    return "the run in " + run + " is gone, there is no going on; begin a new one";
  if (!last_is_sane && fs::exists(run + kSane, unknown))
    return "last.safetensors has diverged; to go on from the last checkpoint whose loss was sane, "
           "at a smaller learning rate: " +
           sane_command(run) + " && " + resume_command(options) + smaller_lr;
  if (diverged)
    return "to go on from the last checkpoint, at a smaller learning rate: " +
           resume_command(options) + smaller_lr;
  return "to go on: " + resume_command(options);
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
  sane.safetensors                           the checkpoint before, should the run diverge
  lock                                       keeps a second process out while one trains

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

static void print_stopped(const TrainOptions& options, const RunState& state) {
  std::cout << "stopped after step " << state.step << "; saved in " << options.out << R"( are
  last.safetensors, config.json   all it takes to go on
  log.csv, epochs.csv             a row a step, a row an epoch
)";
  if (state.best_epoch > 0)
    std::cout << format(
        "  best.safetensors                the weights of epoch %lld, the best: "
        "%.2f %% of the test images\n",
        static_cast<long long>(state.best_epoch), 100 * state.best_accuracy);
}

// Where a run has no checkpoint there is no going on; it must not begin again over its best
// weights.
static void check_checkpoint(const std::string& run) {
  if (fs::exists(run + kLast)) return;
  std::string advice = "restore it, or begin a new run in another folder";
  if (fs::exists(run + kBest))
    advice += ", from the best weights, with --init " + shell_word(run + kBest);
  if (fs::exists(run + kSane)) advice = "bring back the one before: " + sane_command(run);
  fail(run, kLast, ", the checkpoint to go on from, is gone; ", advice);
}

// What a killed program was writing. Only for who has the run's lock.
static void remove_temporary_files(const std::string& run) {
  for (const fs::directory_entry& entry : fs::directory_iterator(run))
    if (entry.path().extension() == ".tmp") fs::remove(entry.path());
}

void train(const TrainOptions& given) {
  TrainOptions options = given;
  options.out = run_folder(given);
  Config config = configure(options);
  std::optional<FileLock> lock;  // two processes must not write into one run
  if (options.resume) {
    lock.emplace(options.out + "/lock");
    check_checkpoint(options.out);
  }
  const Device device = use_machine(config.machine);
  const FaceSets faces = open_faces(config.data, true);
  check_images(config, faces);

  manual_seed(static_cast<std::uint64_t>(config.seed));
  Run run(options, config, faces, device);
  if (options.resume) {
    run.load();
    remove_temporary_files(options.out);
    save_config(options.out, config);
  } else {
    run.create();
    lock.emplace(options.out + "/lock");
  }
  catch_stop_signals();
  try {
    run.open_logs();
    if (options.summary) std::cout << run.model();
    print_plan(options, config, run.state());
    if (!run.last_is_sane()) std::cout << how_to_go_on(options, config, false) << std::endl;
    const bool finished = run.train();
    if (finished)
      print_results(options, config, faces, run.state().best_epoch);
    else
      print_stopped(options, run.state());
    if (!finished || !run.last_is_sane())
      std::cout << how_to_go_on(options, config, run.last_is_sane()) << '\n';
  } catch (const std::exception& error) {
    const bool diverged = dynamic_cast<const NotFinite*>(&error) != nullptr;
    fail(message_of(error), '\n',
         how_to_go_on(options, config, run.last_is_sane(diverged), diverged));
  }
}

}  // namespace chalk::fer
