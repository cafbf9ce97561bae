#include "layers/module.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "autograd/check.h"
#include "autograd/node.h"

namespace chalk {

Tensor Module::operator()(const Tensor& x) {
  ErrorScope scope(name_);
  return forward(x);
}

// ---- registration ----

void Module::check_name(const char* function, const std::string& name) const {
  check(!name.empty() && name.find('.') == name.npos, function, ": \"", name,
        "\" can't be a name; it must not be empty or have dots");
  const auto is_taken = [&name](const auto& parts) {
    return std::any_of(parts.begin(), parts.end(),
                       [&name](const auto& part) { return part.name == name; });
  };
  check(!is_taken(parameters_) && !is_taken(buffers_) && !is_taken(children_), function, ": \"",
        name, "\" is the name of another part; rename one");
}

void Module::add_parameter(const std::string& name, Tensor& tensor, std::vector<Index> file_axes) {
  check_name("add_parameter", name);
  check(tensor.defined(), "add_parameter: \"", name, "\" is undefined");
  std::vector<Index> axes(tensor.shape().size());
  std::iota(axes.begin(), axes.end(), 0);
  check(file_axes.empty() ||
            std::is_permutation(axes.begin(), axes.end(), file_axes.begin(), file_axes.end()),
        "add_parameter: \"", name, "\": file_axes are ", Shape(file_axes),
        ", expected the axes of ", tensor.shape(), " in some order");
  tensor.set_requires_grad();
  parameters_.push_back({name, tensor, std::move(file_axes)});
}

void Module::add_buffer(const std::string& name, const Tensor& tensor) {
  check_name("add_buffer", name);
  check(tensor.defined(), "add_buffer: \"", name, "\" is undefined");
  buffers_.push_back({name, tensor, {}});
}

bool Module::contains(const Module& part) const {
  return this == &part || std::any_of(children_.begin(), children_.end(), [&](const Child& child) {
           return child.module->contains(part);
         });
}

void Module::add_module(const std::string& name, Module& child) {
  if (!name.empty()) check_name("add_module", name);
  check(!child.contains(*this), "add_module: \"", name, "\" would be a part of itself");
  child.name_ = name;
  children_.push_back({name, &child});
}

// ---- the tree ----

void Module::collect(const std::string& prefix, std::vector<Named> Module::*list,
                     std::vector<Named>& all) const {
  for (const Named& entry : this->*list)
    all.push_back({prefix + entry.name, entry.tensor, entry.file_axes});
  for (const Child& child : children_)
    child.module->collect(child.name.empty() ? prefix : prefix + child.name + ".", list, all);
}

std::vector<Module::Named> Module::named_parameters() const {
  std::vector<Named> all;
  collect("", &Module::parameters_, all);
  return all;
}

std::vector<Module::Named> Module::named_buffers() const {
  std::vector<Named> all;
  collect("", &Module::buffers_, all);
  return all;
}

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> tensors;
  for (const Named& parameter : named_parameters())
    tensors.push_back(parameter.tensor);
  return tensors;
}

std::vector<Tensor> Module::tensors() const {
  std::vector<Tensor> all = parameters();
  for (const Named& buffer : named_buffers())
    all.push_back(buffer.tensor);
  return all;
}

Index Module::parameter_count() const {
  Index count = 0;
  for (const Tensor& parameter : parameters())
    count += parameter.numel();
  return count;
}

void Module::train(bool training) {
  training_ = training;
  for (const Child& child : children_)
    child.module->train(training);
}

void Module::zero_grad() {
  for (Tensor& parameter : parameters())
    parameter.zero_grad();
}

void Module::to(DType dtype) {
  for (Tensor tensor : tensors())
    if (tensor.is_floating()) tensor.set_data(tensor.to(dtype));
}

void Module::to(Device device) {
  for (Tensor tensor : tensors())
    tensor.set_data(tensor.to(device));
}

// ---- state_dict ----

static Shape file_shape(const Module::Named& entry) {
  Shape shape;
  for (Index axis : entry.file_axes)
    shape.push_back(entry.tensor.size(axis));
  return entry.file_axes.empty() ? entry.tensor.shape() : shape;
}

static Tensor from_file_layout(const Tensor& value, const std::vector<Index>& file_axes) {
  if (file_axes.empty()) return value;
  std::vector<Index> inverse(file_axes.size());
  for (std::size_t axis = 0; axis < file_axes.size(); ++axis)
    inverse[static_cast<std::size_t>(file_axes[axis])] = static_cast<Index>(axis);
  return permute(value, inverse);
}

static std::vector<Module::Named> all_entries(const Module& module) {
  std::vector<Module::Named> entries = module.named_parameters();
  for (Module::Named& buffer : module.named_buffers())
    entries.push_back(std::move(buffer));
  std::set<std::string> names;  // those of a child without a name may meet others
  for (const Module::Named& entry : entries)
    check(names.insert(entry.name).second, "state_dict: two parts are called \"", entry.name,
          "\"; rename one");
  return entries;
}

StateDict Module::state_dict() const {
  NoGrad no_grad;
  StateDict state;
  for (const Named& entry : all_entries(*this))
    state[entry.name] =
        entry.file_axes.empty() ? entry.tensor.clone() : permute(entry.tensor, entry.file_axes);
  return state;
}

void Module::load_state_dict(const StateDict& state) {
  NoGrad no_grad;
  std::vector<Named> entries = all_entries(*this);
  for (const auto& [name, tensor] : state)
    check(tensor.defined(), "load_state_dict: ", name, " is undefined");
  StateDict unexpected = state;
  std::ostringstream problems;
  for (const Named& entry : entries) {
    unexpected.erase(entry.name);
    const auto found = state.find(entry.name);
    if (found == state.end())
      problems << "\n  missing: " << entry.name << " " << file_shape(entry);
    else if (found->second.shape() != file_shape(entry))
      problems << "\n  shape: " << entry.name << " is " << found->second.shape()
               << ", the network needs " << file_shape(entry);
    else if (found->second.is_floating() != entry.tensor.is_floating())
      problems << "\n  type: " << entry.name << " is " << to_string(found->second.dtype())
               << ", the network needs " << to_string(entry.tensor.dtype());
  }
  for (const auto& [name, tensor] : unexpected)
    problems << "\n  unexpected: " << name << " " << tensor.shape();
  check(problems.str().empty(), "these weights are not for this network:", problems.str());
  for (Named& entry : entries) {
    const Tensor value = from_file_layout(state.at(entry.name), entry.file_axes);
    entry.tensor.copy_from(value.to(entry.tensor.dtype()).to(entry.tensor.device()));
  }
}

// ---- printing ----

static std::string with_commas(Index number) {
  std::string digits = std::to_string(number);
  for (int i = static_cast<int>(digits.size()) - 3; i > 0; i -= 3)
    digits.insert(static_cast<std::size_t>(i), 1, ',');
  return digits;
}

void Module::print(const std::string& name, int depth, std::ostream& out) const {
  std::string line(static_cast<std::size_t>(2 * depth), ' ');
  line += (name.empty() ? "" : name + ": ") + describe();
  for (const Named& parameter : parameters_)
    line += "  " + parameter.name + " " + to_string(parameter.tensor.shape());
  const std::string count = with_commas(parameter_count());
  const std::size_t width = std::max<std::size_t>(line.size() + 2 + count.size(), 100);
  line.resize(width - count.size(), ' ');
  out << line << count << '\n';
  for (const Child& child : children_)
    child.module->print(child.name, depth + 1, out);
}

std::ostream& operator<<(std::ostream& out, const Module& module) {
  module.print("", 0, out);
  return out;
}

}  // namespace chalk
