// Matrix products, and the attention that is made of them.
#include <cmath>

#include "autograd/axes.h"
#include "autograd/node.h"
#include "autograd/operations.h"

namespace chalk {

// A matrix, or a batch of matrices, as [batch, rows, columns].
static Tensor as_batch(const Tensor& x) {
  const Shape batch(x.shape().begin(), x.shape().end() - 2);
  return x.with_shape({element_count(batch), x.size(-2), x.size(-1)});
}

// A batch of matrices with their rows below each other: [1, batch * rows, columns].
static Tensor as_tall(const Tensor& x) {
  const Tensor batch = as_batch(x);
  return batch.with_shape({1, batch.size(0) * batch.size(1), batch.size(2)});
}

// y = op(a) op(b), where op transposes if the flag is set.
static void product(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b,
                    Tensor& y) {
  backend_for(y).matmul(a, transpose_a, b, transpose_b, y);
}

// Y = A B. With G = d loss / d Y:  d loss / d A = G B^T,  d loss / d B = A^T G.
// From Y_ij = sum_k A_ik B_kj:  d loss / d A_ik = sum_j G_ij B_kj = (G B^T)_ik.
// A matrix that served a whole batch has the sum of the batch's gradients; seen as one tall
// matrix the batch sums itself: A^T G over all rows at once.
struct MatmulNode final : Node {
  Saved a, b;
  MatmulNode(const Tensor& a, const Tensor& b) : Node("matmul"), a(a), b(b) {}

  Gradients backward(const Tensor& grad_output) override {
    Tensor grad_a, grad_b;
    if (needs(0)) grad_a = gradient_of_a(grad_output);
    if (needs(1)) grad_b = gradient_of_b(grad_output);
    return {grad_a, grad_b};
  }

  Tensor gradient_of_a(const Tensor& grad_output) {
    const Tensor g = as_batch(grad_output), b_batch = as_batch(b.get());
    Tensor each = empty_like(g, {g.size(0), g.size(1), b_batch.size(1)});
    product(g, false, b_batch, true, each);
    const bool one_for_all = as_batch(a.get()).size(0) != g.size(0);
    return (one_for_all ? sum(each, {0}) : each).with_shape(a.get().shape());
  }

  Tensor gradient_of_b(const Tensor& grad_output) {
    Tensor result = empty_like(grad_output, as_batch(b.get()).shape());
    const bool one_for_all = result.size(0) != as_batch(grad_output).size(0);
    if (one_for_all)
      product(as_tall(a.get()), true, as_tall(grad_output), false, result);
    else
      product(as_batch(a.get()), true, as_batch(grad_output), false, result);
    return result.with_shape(b.get().shape());
  }
};

Tensor matmul(const Tensor& a, const Tensor& b) {
  check_floating("matmul", {&a, &b});
  check(a.dim() >= 2 && b.dim() >= 2 && a.size(-1) == b.size(-2), "matmul: shapes ", a.shape(),
        " and ", b.shape(), "; the first must be [..., m, k] and the second [..., k, n]");
  const Shape a_batch(a.shape().begin(), a.shape().end() - 2);
  const Shape b_batch(b.shape().begin(), b.shape().end() - 2);
  check(a_batch == b_batch || a_batch.empty() || b_batch.empty(), "matmul: shapes ", a.shape(),
        " and ", b.shape(), "; the axes in front of the matrices must be equal or missing");
  Shape shape = a_batch.empty() ? b_batch : a_batch;
  shape.push_back(a.size(-2));
  shape.push_back(b.size(-1));
  Tensor y = empty_like(a, shape);
  const bool tall = b_batch.empty();  // one b: the whole batch of a is one tall matrix
  Tensor products = tall ? as_tall(y) : as_batch(y);
  product(tall ? as_tall(a) : as_batch(a), false, as_batch(b), false, products);
  if (should_record({&a, &b})) record(y, std::make_shared<MatmulNode>(a, b), {a, b});
  return y;
}

Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value) {
  check_floating("scaled_dot_product_attention", {&query, &key, &value});
  ErrorScope scope("scaled_dot_product_attention");
  check(query.dim() >= 2 && query.size(-1) > 0, "query ", query.shape(),
        "; expected [..., tokens, dimensions], with at least one dimension");
  const double scale = 1 / std::sqrt(static_cast<double>(query.size(-1)));
  const Tensor scores = matmul(query, transpose(key)) * scale;  // [..., t, s]
  return matmul(softmax(scores), value);
}

}  // namespace chalk
