// Multi-head self-attention ("Attention Is All You Need", arXiv 1706.03762, section 3.2).
#pragma once

#include "autograd/check.h"
#include "layers/linear.h"

namespace chalk {

// x [N, T, E] -> [N, T, E]: every token asks all tokens (query . key) and takes a weighted mean of
// their values, in each of `heads` subspaces of E / heads dimensions.
// Names as in PyTorch's nn.MultiheadAttention: in_proj_weight holds the three projections.
class MultiHeadAttention : public Module {
 public:
  MultiHeadAttention(Index size, Index heads)
      : in_proj_weight(initial_projections(size, heads)),
        in_proj_bias(Tensor::zeros({3 * size})),
        out_proj(size, size),
        heads_(heads) {
    out_proj.bias.copy_from(Tensor::zeros({size}));
    add_parameter("in_proj_weight", in_proj_weight, {1, 0});
    add_parameter("in_proj_bias", in_proj_bias);
    add_module("out_proj", out_proj);
  }

  Tensor forward(const Tensor& x) override {
    const Index size = out_proj.weight.size(0);
    check(x.dim() == 3 && x.size(2) == size, "attention: input ", x.shape(),
          "; expected [batch, tokens, ", size, "]");
    const Tensor projected = matmul(x, in_proj_weight) + in_proj_bias;  // [N, T, 3 E]
    const Tensor query = split_heads(slice(projected, 2, 0, size));
    const Tensor key = split_heads(slice(projected, 2, size, 2 * size));
    const Tensor value = split_heads(slice(projected, 2, 2 * size, 3 * size));
    const Tensor heads = scaled_dot_product_attention(query, key, value);  // [N, heads, T, d]
    return out_proj(reshape(permute(heads, {0, 2, 1, 3}), x.shape()));
  }

  std::string describe() const override {
    return "MultiHeadAttention(" + std::to_string(out_proj.weight.size(0)) + ", heads " +
           std::to_string(heads_) + ")";
  }

  Tensor in_proj_weight, in_proj_bias;
  Linear out_proj;

 private:
  static Tensor initial_projections(Index size, Index heads) {
    check(size >= 1 && heads >= 1 && size % heads == 0, "MultiHeadAttention: ", size,
          " dimensions can't be divided among ", heads, " heads");
    const Index outputs = element_count({3, size});  // an Error where it would overflow
    return init::xavier_uniform({size, outputs}, size, outputs);
  }

  // [N, T, E] -> [N, heads, T, E / heads]
  Tensor split_heads(const Tensor& x) const {
    return permute(reshape(x, {x.size(0), x.size(1), heads_, x.size(2) / heads_}), {0, 2, 1, 3});
  }

  Index heads_;
};

}  // namespace chalk
