#include "optim/optimizer.h"

#include "autograd/axes.h"

namespace chalk {

static std::string place(DType dtype, Device device) {
  return std::string(to_string(dtype)) + " on " + to_string(device);
}

Optimizer::Optimizer(std::vector<Tensor> parameters, double lr)
    : parameters_(std::move(parameters)), lr_value_(lr) {
  for (const Tensor& parameter : parameters_)
    check_floating("optimizer", {&parameters_[0], &parameter});
  const bool any = !parameters_.empty();
  if (any) dtype_ = parameters_[0].dtype();
  lr_ = Tensor::full({}, lr, DType::float64, any ? parameters_[0].device() : Device::cpu);
}

void Optimizer::set_lr(double lr) {
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
    check(found != saved.end(), "optimizer: the saved state lacks ", name);
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
          Tensor::zeros({static_cast<Index>(parameters_.size())}, DType::int64, lr_.device())) {}

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

}  // namespace chalk
