// Training: a run that can be stopped, or killed, at any moment, and goes on where it was.
#pragma once

#include "examples/fer/recipe.h"

namespace chalk::fer {

// The command. The run's folder holds
//   config.json          all options
//   log.csv, epochs.csv  a row for each step, and for each epoch
//   best.safetensors     the weights that were best on the test images so far, for anyone to use
//   last.safetensors     the checkpoint: all it takes to go on
//   sane.safetensors     the checkpoint before; when the loss leaves all bounds (ten times that of
//                        guessing, or no number) the last from before that, to go back to
//   lock                 kept by the process that trains; a second one is refused
//   loss.png, accuracy.png      curves over the epochs
//   report.txt, confusion.csv, confusion.png   how the best epoch did on the test images
// Files are replaced as one step, so a run that is killed at any moment can be resumed; weights and
// losses are then, bit for bit, those of an unbroken run.
void train(const TrainOptions& options);

}  // namespace chalk::fer
