#include "optim/optimizer.h"

#include <set>

#include "autograd/axes.h"

namespace chalk {

static std::string place(DType dtype, Device device) {
  return std::string(to_string(dtype)) + " on " + to_string(device);
}

static void check_option(const char* name, double value, double limit = INFINITY) {
  check(value >= 0 && value < limit, name, " is ", value, ", expected 0 or more and less than ",
        limit);
}

Optimizer::Optimizer(std::vector<Tensor> parameters, double lr)
    : parameters_(std::move(parameters)) {
  std::set<const Node*> seen;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Tensor& parameter = parameters_[i];
    check(parameter.defined(), "optimizer: parameter ", i, " is undefined");
    check_floating("optimizer", {&parameters_[0], &parameter});
    check(!parameter.node() || seen.insert(parameter.node().get()).second, "optimizer: parameter ",
          i, " is given twice; it would be changed twice in a step");
  }
  const bool any = !parameters_.empty();
  if (any) dtype_ = parameters_[0].dtype();
  lr_ = Tensor({}, DType::float64, any ? parameters_[0].device() : Device::cpu);
  set_lr(lr);
}

void Optimizer::set_lr(double lr) {
  check_option("optimizer: lr", lr);
  if (lr != lr_value_) backend_for(lr_).fill(lr, lr_);
  lr_value_ = lr;
}

std::vector<Tensor> Optimizer::gradients() const {
  std::vector<Tensor> result;
  for (const Tensor& parameter : parameters_) {
    check(parameter.dtype() == dtype_ && parameter.device() == lr_.device(),
          "optimizer: parameter ", result.size(), " is ",
          place(parameter.dtype(), parameter.device()), ", it was ", place(dtype_, lr_.device()),
          " when the optimizer was made; convert the model by to() before making its optimizer");
    result.push_back(parameter.grad());
  }
  return result;
}

void Optimizer::load_state(const std::map<std::string, Tensor>& saved) {
  std::map<std::string, Tensor> own = state();
  check(own.size() == saved.size(), "optimizer: the saved state has ", saved.size(),
        " tensors, this optimizer has ", own.size(), "; was it saved by another one?");
  for (auto& [name, tensor] : own) {
    const auto found = saved.find(name);
    check(found != saved.end() && found->second.defined(), "optimizer: the saved state lacks ",
          name);
    check(found->second.shape() == tensor.shape(), "optimizer: ", name, " is ",
          found->second.shape(), " in the saved state, expected ", tensor.shape());
  }
  for (auto& [name, tensor] : own)
    tensor.copy_from(saved.at(name).to(tensor.dtype()).to(tensor.device()));
}

static std::vector<Tensor> zeros_like(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> zeros;
  for (const Tensor& tensor : tensors)
    zeros.push_back(Tensor::zeros(tensor.shape(), tensor.dtype(), tensor.device()));
  return zeros;
}

// ---- SGD ----

Sgd::Sgd(std::vector<Tensor> parameters, const SgdOptions& options)
    : Optimizer(std::move(parameters), options.lr),
      options_(options),
      velocity_(parameters_.size()) {
  check_option("Sgd: momentum", options.momentum);
  check_option("Sgd: weight_decay", options.weight_decay);
  if (options.momentum != 0) velocity_ = zeros_like(parameters_);
}

void Sgd::step() {
  backend().sgd_step({options_.momentum, options_.weight_decay}, lr_, gradients(), velocity_,
                     parameters_);
}

std::map<std::string, Tensor> Sgd::state() {
  std::map<std::string, Tensor> result;
  for (std::size_t i = 0; i < velocity_.size(); ++i)
    if (velocity_[i].defined()) result[std::to_string(i) + ".velocity"] = velocity_[i];
  return result;
}

// ---- AdamW ----

AdamW::AdamW(std::vector<Tensor> parameters, const AdamWOptions& options)
    : Optimizer(std::move(parameters), options.lr),
      options_(options),
      m_(zeros_like(parameters_)),
      v_(zeros_like(parameters_)),
      step_counts_(
          Tensor::zeros({static_cast<Index>(parameters_.size())}, DType::int64, lr_.device())) {
  check_option("AdamW: beta1", options.beta1, 1);
  check_option("AdamW: beta2", options.beta2, 1);
  check_option("AdamW: eps", options.eps);
  check_option("AdamW: weight_decay", options.weight_decay);
}

void AdamW::step() {
  backend().adamw_step({options_.beta1, options_.beta2, options_.eps, options_.weight_decay}, lr_,
                       gradients(), step_counts_, m_, v_, parameters_);
}

std::map<std::string, Tensor> AdamW::state() {
  std::map<std::string, Tensor> result{{"step", step_counts_}};
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    result[std::to_string(i) + ".m"] = m_[i];
    result[std::to_string(i) + ".v"] = v_[i];
  }
  return result;
}

void AdamW::load_state(const std::map<std::string, Tensor>& saved) {
  const auto steps = saved.find("step");
  if (steps != saved.end() && steps->second.defined())
    for (Index count : steps->second.to(DType::int64).to_vector<Index>())
      check(count >= 0, "AdamW: step is ", count, " in the saved state, expected 0 or more");
  Optimizer::load_state(saved);
}

}  // namespace chalk
