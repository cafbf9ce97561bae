// Dropout (Srivastava et al., JMLR 15, 2014).
#include "autograd/axes.h"
#include "autograd/operations.h"

namespace chalk {

// y = x mask with mask 0 or 1 / (1 - p): scaled so that the expected value of y is x. The mask is
// a constant, so the gradient is that of the product.
Tensor dropout(const Tensor& x, double p, Generator& generator) {
  check_floating("dropout", {&x});
  check(p >= 0 && p < 1, "dropout: p is ", p, "; it must be at least 0 and less than 1");
  Tensor mask = empty_like(x);
  backend_for(x).dropout_mask(p, generator.seed, generator.counter, mask);
  generator.counter += static_cast<std::uint64_t>(x.numel());
  return x * mask;
}

}  // namespace chalk
