#include "optim/optimizer.h"

#include "autograd/backend.h"
#include "autograd/check.h"

namespace chalk {

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
    : Optimizer(std::move(parameters)), options_(options), velocity_(parameters_.size()) {
  lr = options.lr;
  if (options.momentum != 0) velocity_ = zeros_like(parameters_);
}

void Sgd::step() {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Tensor gradient = parameters_[i].grad();
    if (!gradient.defined()) continue;
    backend_for(gradient).sgd_step({lr, options_.momentum, options_.weight_decay}, gradient,
                                   velocity_[i], parameters_[i]);
  }
}

std::map<std::string, Tensor> Sgd::state() {
  std::map<std::string, Tensor> result;
  for (std::size_t i = 0; i < velocity_.size(); ++i)
    if (velocity_[i].defined()) result[std::to_string(i) + ".velocity"] = velocity_[i];
  return result;
}

// ---- AdamW ----

AdamW::AdamW(std::vector<Tensor> parameters, const AdamWOptions& options)
    : Optimizer(std::move(parameters)),
      options_(options),
      m_(zeros_like(parameters_)),
      v_(zeros_like(parameters_)),
      step_counts_(Tensor::zeros({static_cast<Index>(parameters_.size())}, DType::int64)) {
  lr = options.lr;
}

void AdamW::step() {
  Index* t = step_counts_.mutable_data<std::int64_t>();
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Tensor gradient = parameters_[i].grad();
    if (!gradient.defined()) continue;
    const AdamWStep step{lr,           options_.beta1,        options_.beta2,
                         options_.eps, options_.weight_decay, ++t[i]};
    backend_for(gradient).adamw_step(step, gradient, m_[i], v_[i], parameters_[i]);
  }
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
