#include "optim/captured_step.h"

#include "autograd/environment.h"

namespace chalk {

CapturedStep::CapturedStep(std::vector<Tensor> changed, std::function<void()> step)
    : changed_(std::move(changed)), step_(std::move(step)) {
  check(!changed_.empty() && step_ != nullptr, "CapturedStep: no tensors or no function was given");
  if (environment_flag("CHALK_GRAPH", true)) recorder_ = make_recorder(changed_[0].device());
}

void CapturedStep::run() {
  if (recorder_ == nullptr) return step_();
  // The first makes what exists only from then on, such as gradients. The second finds the memory
  // that every step after it needs.
  if (runs_ < 2) {
    recorder_->warm_up(step_);
    ++runs_;
    return;
  }
  if (runs_ == 2) record();
  Generator& generator = default_generator();
  recorder_->replay(generator.counter - counter_);
  generator.counter += drawn_;
  for (const Tensor& tensor : changed_)
    ++tensor.storage()->version;
}

// Recording runs the function but computes nothing, so its random numbers are not drawn yet.
void CapturedStep::record() {
  Generator& generator = default_generator();
  counter_ = generator.counter;
  try {
    recorder_->record(step_);
  } catch (const Error& error) {
    generator.counter = counter_;
    throw Error(error.what() + std::string("; CHALK_GRAPH=0 trains without recording steps"));
  }
  drawn_ = generator.counter - counter_;
  generator.counter = counter_;
  ++runs_;
}

}  // namespace chalk
