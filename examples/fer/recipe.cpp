#include "examples/fer/recipe.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "autograd/check.h"
#include "data/files.h"
#include "examples/fer/fields.h"
#include "optim/schedule.h"

namespace chalk::fer {

namespace fs = std::filesystem;
using Json = nlohmann::json;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Recipe, name, epochs, augment_epochs, batch, lr, weight_decay,
                                   warmup_epochs, cosine)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(NetworkSizes, image_size, heads)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Machine, device, threads, workers)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Config, recipe, network, data, init, seed, shuffle, machine,
                                   train_images)

double learning_rate(const Recipe& recipe, Index step, Index steps_per_epoch) {
  const auto warmup = std::llround(recipe.warmup_epochs * static_cast<double>(steps_per_epoch));
  const Index steps = (recipe.epochs + recipe.augment_epochs) * steps_per_epoch;
  if (!recipe.cosine && step >= warmup) return recipe.lr;
  return warmup_cosine_schedule(step, warmup, steps, recipe.lr);
}

// ---- the run's folder ----

std::string run_folder(const TrainOptions& options) {
  if (!options.out.empty()) return (fs::path(options.out) / "").parent_path();  // "x/" is "x"
  if (options.data.empty()) return "runs/drawn";
  const fs::path data = fs::weakly_canonical(options.data);
  return "runs/" + (data.filename().empty() ? std::string("data") : data.filename().string());
}

std::string shell_word(const std::string& word) {
  const bool plain = std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return std::isalnum(c) || std::strchr("/._-+=,:@%", c) != nullptr;
  });
  if (plain && !word.empty()) return word;
  std::string quoted = "'";
  for (char c : word)
    quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

std::string resume_command(const TrainOptions& options) {
  return shell_word(options.program) + " train --resume --out " + shell_word(options.out);
}

// Nothing may be there yet, or an empty folder.
static void check_free(const TrainOptions& options) {
  const fs::path folder = options.out;
  std::error_code unknown;  // then creating the run says what is wrong
  if (!fs::exists(folder, unknown) || fs::is_empty(folder, unknown)) return;
  check(!unknown, "cannot look into ", folder.string(), ": ", unknown.message(),
        "; choose another folder with --out");
  check(fs::exists(folder / "config.json", unknown), folder.string(),
        " exists already and is no run; choose another folder with --out");
  fail("there is a run in ", folder.string(), " already; go on with it: ", resume_command(options),
       "\nor choose another folder with --out, or remove this one");
}

void save_config(const std::string& folder, const Config& config) {
  write_file(folder + "/config.json", Json(config).dump(2) + "\n");
}

// ---- options ----

static constexpr Index kMaxEpochs = 100'000;

// Options are named "--augment-epochs", fields of a file "<path>: augment_epochs".
static void check_values(const Config& config, const std::string& path = {}) {
  const auto name = [&path](std::string field) {
    if (!path.empty()) return path + ": " + field;
    std::replace(field.begin(), field.end(), '_', '-');
    return "--" + field;
  };
  const Recipe& recipe = config.recipe;
  check_range(name("epochs"), recipe.epochs, Index{0}, kMaxEpochs);
  check_range(name("augment_epochs"), recipe.augment_epochs, Index{0}, kMaxEpochs);
  check(recipe.epochs + recipe.augment_epochs > 0, name("epochs"), " 0 and ",
        name("augment_epochs"), " 0: nothing to do; one must be 1 or more");
  check_range(name("batch"), recipe.batch, Index{1}, kMaxBatch);
  check_range(name("lr"), recipe.lr, 0.0, 100.0);
  check_range(name("weight_decay"), recipe.weight_decay, 0.0, 100.0);
  check_range(name("warmup_epochs"), recipe.warmup_epochs, 0.0, static_cast<double>(kMaxEpochs));
  check_range(name("seed"), config.seed, Index{0}, std::numeric_limits<Index>::max());
  check_range(name("threads"), config.machine.threads, 0, kMaxThreads);
  check_range(name("workers"), config.machine.workers, 0, kMaxWorkers);
  check_range(name("train_images"), config.train_images, Index{0}, kMaxSteps);
  ErrorScope scope(path);
  check_sizes(config.network);
}

static Config read_config(const std::string& folder) {
  const std::string path = folder + "/config.json";
  std::error_code unknown;  // then reading it says what is wrong
  check(fs::exists(path, unknown) || unknown, "there is no run to resume in ", folder,
        ": it has no config.json; name the run's folder with --out, or leave out --resume");
  const std::vector<std::uint8_t> text = read_file(path);
  try {
    const Json stored = Json::parse(text.begin(), text.end());
    const Config config = stored.get<Config>();
    check_exact(stored, config, path);
    check_values(config, path);
    return config;
  } catch (const Json::exception& error) {
    fail(path, ": it does not hold a run's options (", error.what(),
         "); restore it, or begin a new run with --init ", folder, "/last.safetensors");
  }
}

// Resuming may train longer, at another pace, or on another machine, but not change what the steps
// done so far were made of.
static void check_same_run(const Json& before, const Json& after) {
  const std::pair<const char*, const char*> fixed[] = {
      {"--batch", "/recipe/batch"},  {"--image-size", "/network/image_size"},
      {"--heads", "/network/heads"}, {"--seed", "/seed"},
      {"--no-shuffle", "/shuffle"},  {"--init", "/init"}};
  for (const auto& [option, key] : fixed) {
    const Json::json_pointer value(key);
    check(before[value] == after[value], option, ": the run was begun with ", before[value],
          " and cannot go on with ", after[value], "; leave the option out, or begin a new run");
  }
}

static std::string absolute_path(const char* option, const std::string& path) {
  const std::string absolute = fs::absolute(path).string();
  try {
    [[maybe_unused]] const std::string text = Json(absolute).dump();
  } catch (const Json::exception&) {
    fail(option, " ", absolute,
         ": config.json holds names in UTF-8 only, and this is none; rename it, or make a link to "
         "it");
  }
  return absolute;
}

template <typename T>
static void replace(T& value, const std::optional<T>& option) {
  if (option) value = *option;
}

Config configure(const TrainOptions& options) {
  Config config;
  if (!options.resume) check_free(options);
  if (options.resume)
    config = read_config(options.out);
  else
    config.recipe = options.data.empty() ? kDrawnRecipe : kPublishedRecipe;
  const Json before = config;
  if (options.epochs && !options.resume)
    config.recipe.augment_epochs = 0;  // these epochs and no more
  replace(config.recipe.epochs, options.epochs);
  replace(config.recipe.augment_epochs, options.augment_epochs);
  replace(config.recipe.batch, options.batch);
  replace(config.recipe.lr, options.lr);
  replace(config.recipe.weight_decay, options.weight_decay);
  replace(config.network.image_size, options.image_size);
  replace(config.network.heads, options.heads);
  replace(config.seed, options.seed);
  replace(config.shuffle, options.shuffle);
  replace(config.machine.device, options.device);
  replace(config.machine.threads, options.threads);
  replace(config.machine.workers, options.workers);
  // Absolute, so that the run can be resumed from any folder.
  if (!options.data.empty()) config.data = absolute_path("--data", options.data);
  if (!options.init.empty()) config.init = absolute_path("--init", options.init);
  check_range("--steps", options.steps.value_or(1), Index{1}, kMaxSteps);
  check_range("--save-every", options.save_every, Index{1}, kMaxSteps);
  check_values(config);
  if (options.resume) check_same_run(before, config);
  return config;
}

}  // namespace chalk::fer
