// Softmax, its logarithm, and the cross entropy made of it.
#include "autograd/axes.h"
#include "autograd/node.h"
#include "autograd/operations.h"

namespace chalk {

// ---- softmax: y_i = exp(x_i) / sum_j exp(x_j), and its logarithm, x_i - log sum_j exp(x_j) ----

// d y_i / d x_j = y_i ([i = j] - y_j), so  dx_j = sum_i dy_i y_i ([i = j] - y_j)
//                                               = y_j (dy_j - sum_i dy_i y_i).
// Of the logarithm d y_i / d x_j = [i = j] - exp(y_j), so  dx_j = dy_j - exp(y_j) sum_i dy_i.
struct SoftmaxNode final : Node {
  Saved output;
  bool logarithm;
  SoftmaxNode(const Tensor& output, bool logarithm)
      : Node(logarithm ? "log_softmax" : "softmax"), output(output), logarithm(logarithm) {}

  Gradients backward(const Tensor& grad_output) override {
    Tensor grad_input = empty_like(grad_output);
    backend_for(grad_output).softmax_backward(output.get(), logarithm, grad_output, grad_input);
    return {grad_input};
  }
};

static Tensor over_last_axis(const Tensor& x, bool logarithm) {
  Tensor y = empty_like(x);
  backend_for(x).softmax(x, logarithm, y);
  if (should_record({&x})) record(y, std::make_shared<SoftmaxNode>(y, logarithm), {x});
  return y;
}

// Another axis is moved to the end and back.
static Tensor over_axis(const char* name, const Tensor& x, Index axis, bool logarithm) {
  check_floating(name, {&x});
  axis = positive_axis(name, x, axis);
  if (axis == x.dim() - 1) return over_last_axis(x, logarithm);
  return transpose(over_last_axis(transpose(x, axis, -1), logarithm), axis, -1);
}

Tensor softmax(const Tensor& x, Index axis) {
  return over_axis("softmax", x, axis, false);
}

Tensor log_softmax(const Tensor& x, Index axis) {
  return over_axis("log_softmax", x, axis, true);
}

// ---- cross entropy: -1/N sum_n y_n,label(n) with y = log_softmax(x) ----

// Through both at once: d loss / d x_nj = (exp(y_nj) - [j = label(n)]) / N, prediction minus truth.
struct CrossEntropyNode final : Node {
  Saved log_probability, labels;
  CrossEntropyNode(const Tensor& log_probability, const Tensor& labels)
      : Node("cross_entropy"), log_probability(log_probability), labels(labels) {}

  Gradients backward(const Tensor& grad_output) override {
    Tensor grad_logits = empty_like(grad_output, log_probability.get().shape());
    backend_for(grad_output)
        .cross_entropy_backward(log_probability.get(), labels.get(), grad_output, grad_logits);
    return {grad_logits};
  }
};

Tensor cross_entropy(const Tensor& logits, const Tensor& labels) {
  check_floating("cross_entropy", {&logits});
  check_tensors("cross_entropy", {&logits, &labels});
  check(logits.dim() == 2 && labels.shape() == Shape{logits.size(0)} &&
            labels.dtype() == DType::int64,
        "cross_entropy: logits ", logits.shape(), " and labels ", labels.shape(), " ",
        to_string(labels.dtype()), "; expected [batch, classes] and int64 [batch]");
  check(logits.size(0) > 0, "cross_entropy: the batch is empty");
  Tensor log_probability = empty_like(logits), loss = empty_like(logits, {});
  backend_for(logits).softmax(logits, true, log_probability);
  backend_for(logits).nll(log_probability, labels, loss);
  if (should_record({&logits}))
    record(loss, std::make_shared<CrossEntropyNode>(log_probability, labels), {logits});
  return loss;
}

}  // namespace chalk
