// The files of a run: weights for anyone to use, and checkpoints to go on from.
//
//   weights     names and layout of PyTorch's state_dict; metadata says what they were trained for
//   checkpoint  "model.*" the weights, "optimizer.*" the moments, and as metadata where the run
//               stands and what its random numbers were: all it takes to go on bit for bit
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "examples/fer/fer_net.h"
#include "optim/optimizer.h"

namespace chalk::fer {

// Smaller images do not leave a pixel for the last convolution of the patch extraction.
inline constexpr Index kMinImageSize = 81, kMaxImageSize = 1024;

// What the network's shape depends on.
struct NetworkSizes {
  Index image_size = 224;  // pixels, both ways
  Index heads = 1;         // of the attention; they divide its 256 dimensions
};

// Fails, naming the option, if no network can have these sizes.
void check_sizes(const NetworkSizes& sizes);

inline constexpr Index kMaxSteps = 1'000'000'000;  // of a run

// Where a run stands.
struct RunState {
  Index step = 0;   // optimiser steps done
  Index epoch = 0;  // epochs completed

  // The epoch under way: its batches done, and sums over their images.
  Index batch = 0, images = 0, correct = 0;
  double loss_sum = 0;

  double best_accuracy = -1;  // on the test images; -1: not tested yet
  Index best_epoch = 0;       // counted from 1
};

void save_checkpoint(const std::string& path, const NetworkSizes& sizes, const FerNet& model,
                     Optimizer& optimizer, const RunState& state);

// Restores the model, the optimiser and default_generator(). Fails, naming the file and the field
// or tensor, if the file is damaged, of another network or not of these sizes, or if its weights
// are not finite; the model may then hold the file's weights already.
RunState load_checkpoint(const std::string& path, FerNet& model, Optimizer& optimizer,
                         const std::optional<NetworkSizes>& sizes = {});

// The name of a tensor that holds an infinity or a NaN, or "".
std::string find_not_finite(const StateDict& weights);

// Weights alone; the metadata says that they are those of state.best_epoch.
void save_weights(const std::string& path, const NetworkSizes& sizes, const FerNet& model,
                  const RunState& state);

// Weights, or those in a checkpoint, into a network that is there. Fails if they are not finite.
void load_weights(const std::string& path, FerNet& model);

struct LoadedNetwork {
  NetworkSizes sizes;
  std::unique_ptr<FerNet> model;  // in evaluation mode
};

// Builds the network that a file of weights, or a checkpoint, is for. Sizes that are not given are
// those of the file's metadata, else the default ones.
LoadedNetwork load_network(const std::string& path, std::optional<Index> image_size = {},
                           std::optional<Index> heads = {});

}  // namespace chalk::fer
