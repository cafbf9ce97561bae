// Pooling over windows and over whole images, channels last.
#include "autograd/axes.h"
#include "autograd/node.h"
#include "autograd/norm.h"

namespace chalk {

// y = x_j for the first largest x_j of a window, so x_j alone gets the window's gradient; where
// windows overlap, an element gets the sum.
struct MaxPool2dNode final : Node {
  Pool2dSizes sizes;
  Tensor position;
  MaxPool2dNode(const Pool2dSizes& sizes, const Tensor& position)
      : Node("max_pool2d"), sizes(sizes), position(position) {}

  Gradients backward(const Tensor& grad_output) override {
    Tensor grad_input =
        empty_like(grad_output, {sizes.batch, sizes.height, sizes.width, sizes.channels});
    backend_for(grad_output).max_pool2d_backward(sizes, position, grad_output, grad_input);
    return {grad_input};
  }
};

Pool2dSizes max_pool2d_sizes(const char* operation, const Tensor& input, Index kernel, Index stride,
                             Index padding) {
  check_floating(operation, {&input});
  check(input.dim() == 4, operation, ": input ", input.shape(),
        "; expected [batch, height, width, channels]");
  check(kernel >= 1 && kernel <= 15 && stride >= 1 && padding >= 0 && padding <= kernel / 2,
        operation, ": kernel ", kernel, ", stride ", stride, ", padding ", padding,
        "; the kernel must be 1 to 15, the stride at least 1, the padding at most half the kernel");
  const Pool2dSizes sizes{input.size(0), input.size(1), input.size(2), input.size(3),
                          kernel,        stride,        padding};
  check(sizes.channels >= 1, operation, ": the input has no channels; input ", input.shape());
  check(sizes.height >= 1 && sizes.width >= 1 && sizes.height + 2 * padding >= kernel &&
            sizes.width + 2 * padding >= kernel,
        operation, ": the window of ", kernel, " does not fit into the padded image; input ",
        input.shape(), ", padding ", padding);
  return sizes;
}

Tensor max_pool2d(const Tensor& input, Index kernel, Index stride, Index padding) {
  const Pool2dSizes sizes = max_pool2d_sizes("max_pool2d", input, kernel, stride, padding);
  Tensor y =
      empty_like(input, {sizes.batch, sizes.out_height(), sizes.out_width(), sizes.channels});
  Tensor position(y.shape(), DType::uint8, input.device());
  backend_for(input).max_pool2d(sizes, input, y, position);
  if (should_record({&input})) record(y, std::make_shared<MaxPool2dNode>(sizes, position), {input});
  return y;
}

Tensor global_average_pool(const Tensor& input) {
  check_floating("global_average_pool", {&input});
  check(input.dim() == 4, "global_average_pool: input ", input.shape(),
        "; expected [batch, height, width, channels]");
  return mean(input, {1, 2}, true);
}

Tensor global_max_pool(const Tensor& input) {
  check_floating("global_max_pool", {&input});
  check(input.dim() == 4, "global_max_pool: input ", input.shape(),
        "; expected [batch, height, width, channels]");
  return max(input, {1, 2}, true);
}

}  // namespace chalk
