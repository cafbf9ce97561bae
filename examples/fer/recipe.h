// The recipe: how the network is trained, and all else that decides how a run goes.
#pragma once

#include <optional>
#include <string>

#include "examples/fer/checkpoint.h"
#include "examples/fer/setup.h"

namespace chalk::fer {

// First `epochs` epochs on the images as they are, then `augment_epochs` on images that are
// mirrored, turned and coloured at random (Augmentation); AdamW on batches of cross entropy.
struct Recipe {
  std::string name;
  Index epochs, augment_epochs;
  Index batch;
  double lr, weight_decay;
  double warmup_epochs;  // the learning rate grows to lr over these
  bool cosine;           // then it falls to 0 along a cosine; otherwise it stays
};

inline const Recipe kPublishedRecipe = {.name = "as published for RAF-DB",
                                        .epochs = 20,
                                        .augment_epochs = 12,
                                        .batch = 32,
                                        .lr = 0.001,
                                        .weight_decay = 0.01,
                                        .warmup_epochs = 0,
                                        .cosine = false};

inline const Recipe kDrawnRecipe = {.name = "short, since drawn faces are few and clean",
                                    .epochs = 6,
                                    .augment_epochs = 0,
                                    .batch = 32,
                                    .lr = 0.001,
                                    .weight_decay = 0.01,
                                    .warmup_epochs = 1,
                                    .cosine = true};

// The learning rate of a step, which counts from 0 over all epochs.
double learning_rate(const Recipe& recipe, Index step, Index steps_per_epoch);

struct TrainOptions {
  std::string program = "fer";  // how this program was called, for the command to resume
  std::string data;             // folder of the data set; none: the drawn faces
  std::string out;              // folder of the run; none: runs/<name of the data set>
  std::string init;             // weights to begin with; none: random ones
  bool resume = false;
  std::optional<Index> steps;  // stop when the run has done this many; else at the recipe's end
  Index save_every = 100;      // steps from one checkpoint to the next
  bool summary = false;        // first print the network

  // Instead of what the recipe or, on resuming, the run's config.json says.
  std::optional<Index> epochs, augment_epochs, batch, image_size, heads, seed;
  std::optional<double> lr, weight_decay;
  std::optional<bool> shuffle;  // false: each epoch in the order of the data set's list
  std::optional<std::string> device;
  std::optional<int> threads, workers;
};

// What config.json in the run's folder holds.
struct Config {
  Recipe recipe;
  NetworkSizes network;
  std::string data, init;
  Index seed = 0;
  bool shuffle = true;
  Machine machine;
  Index train_images = 0;  // of the data set when the run began
};

// "runs/drawn" for the drawn faces, "runs/raf-db" for a data set in .../raf-db.
std::string run_folder(const TrainOptions& options);

// Options below have run_folder() for `out`.

// The options on top of the recipe for their data set, or of the config.json of the run to resume.
// Fails for values that make no sense, for a new run in a folder that is in use, and for changes
// that would make a resumed run another one.
Config configure(const TrainOptions& options);

// Writes the config.json of a run's folder, or replaces it.
void save_config(const std::string& folder, const Config& config);

// A word as the shell reads it back.
std::string shell_word(const std::string& word);

// What to type to go on with the run.
std::string resume_command(const TrainOptions& options);

}  // namespace chalk::fer
