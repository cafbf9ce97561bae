// The recorded graph: one Node an operation, from results back to the leaves.
//
// Every tensor that needs a gradient has a Node: a LeafNode where it is a parameter, else the
// node of the operation that made it. A node owns the nodes of its operation's inputs, never its
// output: when the last tensor that leads to a node is gone, so is the node.
#pragma once

#include <initializer_list>
#include <memory>
#include <vector>

#include "autograd/tensor.h"

namespace chalk {

// One gradient for each input of an operation, in order; undefined where none is needed.
using Gradients = std::vector<Tensor>;

struct Node {
  explicit Node(const char* operation);
  virtual ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // From d loss / d output to d loss / d input, for every input that needs it, each of its input's
  // shape and type.
  virtual Gradients backward(const Tensor& grad_output) = 0;

  // Whether the gradient of input `i` is wanted.
  bool needs(std::size_t i) const { return inputs[i] != nullptr; }

  const char* operation;                      // "conv2d"
  std::vector<std::shared_ptr<Node>> inputs;  // null: this input needs no gradient
  Shape shape;                                // of the output, hence of its gradient
  DType dtype = DType::float32;               // likewise
  Tensor gradient;                            // d loss / d output, as far as it is summed up
  bool keep_gradient = false;                 // after backward; always so for leaves
  bool freed = false;                         // a backward pass has used and freed this node
  std::uint64_t sequence;                     // nodes are numbered as they are made
};

// Where a chain ends: a parameter, or any tensor after set_requires_grad().
struct LeafNode final : Node {
  LeafNode() : Node("leaf") { keep_gradient = true; }
  Gradients backward(const Tensor&) override { return {}; }
};

// A tensor kept for the backward pass. get() fails if its elements were overwritten meanwhile.
class Saved {
 public:
  Saved() = default;
  Saved(const Tensor& tensor);
  const Tensor& get() const;
  const Shape& shape() const { return tensor_.shape(); }

 private:
  Tensor tensor_;  // without history: a node that owned its output would never be freed
  std::uint64_t version_ = 0;
};

// Whether operations on this thread are recorded.
bool grad_enabled();

// No operation is recorded on this thread while it lives: evaluation, optimisers.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_;
};

// Whether an operation on these inputs must be recorded.
bool should_record(std::initializer_list<const Tensor*> inputs);
bool should_record(const std::vector<Tensor>& inputs);

// Makes `node` the history of `output`, computed from `inputs`.
void record(Tensor& output, std::shared_ptr<Node> node, const std::vector<Tensor>& inputs);

}  // namespace chalk
