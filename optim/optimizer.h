// Optimisers: turn gradients into steps.
//
//   AdamW optimizer(model.parameters(), {.lr = 0.001});
//   optimizer.zero_grad();
//   cross_entropy(model(images), labels).backward();
//   optimizer.step();
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "autograd/backend.h"

namespace chalk {

class Optimizer {
 public:
  // The parameters must be of one type and on one device, each given once, and stay so: convert a
  // model by to() first. Throws Error otherwise.
  Optimizer(std::vector<Tensor> parameters, double lr);
  virtual ~Optimizer() = default;

  // Changes every parameter that has a gradient.
  virtual void step() = 0;

  void zero_grad() {
    for (Tensor& parameter : parameters_)
      parameter.zero_grad();
  }

  // What a checkpoint must hold to go on bit for bit: "<parameter's number>.<name>" -> tensor, as
  // handles. load_state() throws Error unless names and shapes are those of state().
  virtual std::map<std::string, Tensor> state() = 0;
  virtual void load_state(const std::map<std::string, Tensor>& state);

  // The learning rate, at least 0; schedules change it between steps.
  double lr() const { return lr_value_; }
  void set_lr(double lr);

 protected:
  Backend& backend() const { return chalk::backend(lr_.device(), dtype_); }

  // Of every parameter; undefined where it has none. Throws Error for a converted parameter.
  std::vector<Tensor> gradients() const;

  std::vector<Tensor> parameters_;
  Tensor lr_;  // a float64 scalar beside the parameters, where the backend reads it

 private:
  double lr_value_ = NAN;  // what lr_ holds
  DType dtype_ = DType::float32;
};

// Stochastic gradient descent with momentum, as PyTorch's (dampening 0, no Nesterov):
// v = momentum v + (gradient + weight_decay w); w -= lr v. Options are at least 0.
struct SgdOptions {
  double lr = 0.01, momentum = 0, weight_decay = 0;
};

class Sgd : public Optimizer {
 public:
  Sgd(std::vector<Tensor> parameters, const SgdOptions& options = {});
  void step() override;
  std::map<std::string, Tensor> state() override;

 private:
  SgdOptions options_;
  std::vector<Tensor> velocity_;  // one for each parameter; undefined where momentum is 0
};

// Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2):
//   m = beta1 m + (1 - beta1) g         mean of the gradients
//   v = beta2 v + (1 - beta2) g^2       mean of their squares
//   w -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) + lr weight_decay w
// t counts the steps of each parameter by itself: one that was frozen begins with t = 1. Options
// are at least 0, the betas less than 1.
struct AdamWOptions {
  double lr = 0.001, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
};

class AdamW : public Optimizer {
 public:
  AdamW(std::vector<Tensor> parameters, const AdamWOptions& options = {});
  void step() override;
  std::map<std::string, Tensor> state() override;
  void load_state(const std::map<std::string, Tensor>& state) override;  // counts: 0 or more

 private:
  AdamWOptions options_;
  std::vector<Tensor> m_, v_;
  Tensor step_counts_;  // int64, one for each parameter; a tensor, so that it is part of the state
};

}  // namespace chalk
