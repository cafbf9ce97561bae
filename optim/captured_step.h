// CapturedStep: a train step that a device records once and then repeats by itself.
//
//   CapturedStep step(model.tensors(), [&] {
//     logits = model(images);
//     loss = cross_entropy(logits, labels);
//     optimizer.zero_grad();
//     loss.backward();
//     optimizer.step();
//   });
//   images.copy_from(batch.images);   // and the labels: the same tensors every time
//   step.run();
//
// A GPU gets through the short kernels of a step faster than the CPU can launch them. A recorded
// step (a CUDA graph) is one launch. On the CPU, and with CHALK_GRAPH=0, run() only calls the
// function; the results are the same bits.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "autograd/devices.h"

namespace chalk {

class CapturedStep {
 public:
  // `changed`: the tensors that the step changes and others may have saved: a model's tensors(),
  // all on one device.
  //
  // The function is called three times, then never again; what it did the third time is repeated.
  // So it must always use the same tensors, of the same shapes, and what changes from step to step
  // must lie in tensors: as learning rates and step counts do. Random numbers may come from
  // default_generator() alone. Tensors it assigns to variables outside, as the loss, hold the last
  // run's results.
  CapturedStep(std::vector<Tensor> changed, std::function<void()> step);

  // One step, always. Throws Error where the function waits for the device or copies from the CPU.
  void run();

  // How many kernels and copies the recorded step is; 0 before it is recorded.
  Index launches() const { return runs_ > 2 ? recorder_->launches() : 0; }

 private:
  void record();

  std::vector<Tensor> changed_;
  std::function<void()> step_;
  std::unique_ptr<Recorder> recorder_;  // nullptr: nothing is ever recorded
  int runs_ = 0;
  std::uint64_t counter_ = 0,
                drawn_ = 0;  // of the recorded step: its first random number, how many
};

}  // namespace chalk
