#include "autograd/node.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <unordered_set>

#include "autograd/backend.h"
#include "autograd/check.h"

namespace chalk {

static std::atomic<std::uint64_t> node_count{0};
static thread_local bool recording = true;

Node::Node(const char* operation_name) : operation(operation_name), sequence(node_count++) {}

// Frees the chain behind this node in a loop. Left to the compiler, ~Node would call ~Node for
// its inputs, and a chain of a million operations would overflow the stack.
Node::~Node() {
  std::vector<std::shared_ptr<Node>> unreachable = std::move(inputs);
  while (!unreachable.empty()) {
    std::shared_ptr<Node> node = std::move(unreachable.back());
    unreachable.pop_back();
    if (node.use_count() != 1) continue;  // null, or someone else still needs it
    std::move(node->inputs.begin(), node->inputs.end(), std::back_inserter(unreachable));
    node->inputs.clear();
  }
}

Saved::Saved(const Tensor& tensor) {
  if (!tensor.defined()) return;
  tensor_ = tensor.detach();
  version_ = tensor_.storage()->version;
}

const Tensor& Saved::get() const {
  const std::uint64_t now = tensor_.storage()->version;
  check(now == version_, "a tensor of shape ", tensor_.shape(),
        " that the backward pass needs was overwritten after the forward pass (", now - version_,
        " changes); compute into a new tensor, or clone() it before changing it");
  return tensor_;
}

bool grad_enabled() {
  return recording;
}

NoGrad::NoGrad() : before_(recording) {
  recording = false;
}

NoGrad::~NoGrad() {
  recording = before_;
}

bool should_record(std::initializer_list<const Tensor*> inputs) {
  return recording && std::any_of(inputs.begin(), inputs.end(),
                                  [](const Tensor* input) { return input->requires_grad(); });
}

bool should_record(const std::vector<Tensor>& inputs) {
  return recording && std::any_of(inputs.begin(), inputs.end(),
                                  [](const Tensor& input) { return input.requires_grad(); });
}

void record(Tensor& output, std::shared_ptr<Node> node, const std::vector<Tensor>& inputs) {
  check(node != nullptr, "record: the node is null");
  for (const Tensor& input : inputs)
    node->inputs.push_back(input.defined() ? input.node() : nullptr);
  output.set_node(std::move(node));
}

// All nodes that lead to `root`, each before the nodes of its inputs.
//
// The order matters. In  b = a + a; c = b + b;  the gradient of b has two parts, and a recursive
// walk that follows each as it comes would visit b twice, the second time with a gradient that
// contains the first: d c / d a = 6 instead of 4. A node may run only when its gradient is
// complete, that is, after every node that uses its result. An operation is recorded after its
// inputs were, so going through the nodes from the youngest to the oldest is such an order.
static std::vector<std::shared_ptr<Node>> topological_order(const std::shared_ptr<Node>& root) {
  std::vector<std::shared_ptr<Node>> found = {root};
  std::unordered_set<Node*> seen = {root.get()};
  for (std::size_t next = 0; next < found.size(); ++next) {
    const Node& node = *found[next];
    for (const std::shared_ptr<Node>& input : node.inputs)
      if (input && seen.insert(input.get()).second) found.push_back(input);
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a->sequence > b->sequence; });
  return found;
}

// Adds a part to the gradient of a node. The first part is taken over as it is, a sum made in
// place, only where no one else holds the elements; on the way through the graph, where no one
// changes them, the first part may be shared.
static void accumulate(Node& node, Tensor part) {
  if (!node.gradient.defined()) {
    node.gradient = node.keep_gradient && !part.is_unique() ? part.clone() : std::move(part);
    return;
  }
  Backend& backend = backend_for(part);
  if (node.gradient.is_unique()) {
    backend.scale_add(1, part, 1, node.gradient);
  } else {
    Tensor total(part.shape(), part.dtype(), part.device());
    backend.binary(Binary::add, node.gradient, part, total);
    node.gradient = total;
  }
}

// Before a pass changes any gradient: is the graph complete?
static void check_not_freed(const Node& node) {
  check(!node.freed, node.operation,
        ": backward through a graph that an earlier backward() has freed; run the forward pass "
        "again, or pass retain_graph = true to the earlier backward()");
}

// A kernel would read or write beyond the end of one that is not as its input. Between the passes
// set_data() may have converted the input.
static void check_gradient(std::size_t number, const Node& input, const Tensor& gradient) {
  check(gradient.defined(), "backward gives input ", number, " an undefined gradient");
  check(gradient.shape() == input.shape && gradient.dtype() == input.dtype, "backward gives input ",
        number, " a gradient ", gradient.shape(), " ", to_string(gradient.dtype()),
        ", the input is ", input.shape, " ", to_string(input.dtype));
}

// Runs one node: its gradient goes through its operation to its inputs.
static void propagate(Node& node) {
  ErrorScope scope(node.operation);
  Gradients gradients = node.backward(node.gradient);
  check(gradients.size() == node.inputs.size(), "backward gives ", gradients.size(),
        " gradients for ", node.inputs.size(), " inputs");
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (!node.needs(i)) continue;
    check_gradient(i, *node.inputs[i], gradients[i]);
    accumulate(*node.inputs[i], std::move(gradients[i]));
  }
}

void Tensor::backward(bool retain_graph) const {
  check(numel() == 1, "backward: the tensor has shape ", shape(),
        "; without a gradient it must have one element: reduce it, for example by sum()");
  backward(Tensor::ones(shape(), dtype(), device()), retain_graph);
}

void Tensor::backward(const Tensor& gradient, bool retain_graph) const {
  check(requires_grad(),
        "backward: this tensor has no history; call set_requires_grad() on what "
        "it is computed from, and compute outside of NoGrad");
  check(gradient.defined() && gradient.shape() == shape() && gradient.dtype() == dtype() &&
            gradient.device() == device(),
        "backward: the gradient must have the shape ", shape(), ", type and device of the tensor");
  NoGrad no_grad;
  std::vector<std::shared_ptr<Node>> order = topological_order(node());
  for (const std::shared_ptr<Node>& node : order)
    check_not_freed(*node);
  for (const std::shared_ptr<Node>& node : order)
    if (!node->inputs.empty()) node->gradient = Tensor();  // of an earlier pass; leaves keep theirs
  accumulate(*node(), gradient.detach());
  for (std::shared_ptr<Node>& node : order) {
    if (node->gradient.defined()) propagate(*node);
    if (!node->keep_gradient) node->gradient = Tensor();
    if (!retain_graph && !node->inputs.empty()) {
      node->freed = true;
      node->inputs.clear();
    }
    node.reset();  // frees what it saved, unless a tensor still leads here
  }
}

}  // namespace chalk
