// Optimisers: turn gradients into steps.
//
//   AdamW optimizer(model.parameters(), {.lr = 0.001});
//   optimizer.zero_grad();
//   cross_entropy(model(images), labels).backward();
//   optimizer.step();
#pragma once

#include <map>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace chalk {

class Optimizer {
 public:
  explicit Optimizer(std::vector<Tensor> parameters) : parameters_(std::move(parameters)) {}
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

  double lr = 0.001;  // learning rate; schedules change it between steps

 protected:
  std::vector<Tensor> parameters_;
};

// Stochastic gradient descent with momentum, as PyTorch's (dampening 0, no Nesterov):
// v = momentum v + (gradient + weight_decay w); w -= lr v.
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
// t counts the steps of each parameter by itself: one that was frozen begins with t = 1.
struct AdamWOptions {
  double lr = 0.001, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
};

class AdamW : public Optimizer {
 public:
  AdamW(std::vector<Tensor> parameters, const AdamWOptions& options = {});
  void step() override;
  std::map<std::string, Tensor> state() override;

 private:
  AdamWOptions options_;
  std::vector<Tensor> m_, v_;
  Tensor step_counts_;  // int64, one for each parameter; a tensor, so that it is part of the state
};

}  // namespace chalk
