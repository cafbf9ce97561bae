// 2-d convolution, channels last.
#include <algorithm>

#include "autograd/axes.h"
#include "autograd/node.h"
#include "autograd/operations.h"

namespace chalk {

// y = conv(x, w) is linear in x and in w, so each gradient is again a convolution:
//   dx[h, w, c]    = sum over output pixels that saw (h, w), and o, of dy[.., o] weight[i, j, c, o]
//   dw[i, j, c, o] = sum over images and output pixels of x[h s + i - p, w s + j - p, c] dy[h, w,
//   o]
// The first sends every output gradient back along the weights it came by; the second correlates
// the input with the output's gradient.
struct Conv2dNode final : Node {
  Conv2dSizes sizes;
  Saved input, weight;
  Conv2dNode(const Conv2dSizes& sizes, const Tensor& input, const Tensor& weight)
      : Node("conv2d"), sizes(sizes), input(input), weight(weight) {}

  Gradients backward(const Tensor& grad_output) override {
    Backend& backend = backend_for(grad_output);
    Tensor grad_input, grad_weight;
    if (needs(0)) {
      grad_input = empty_like(grad_output, input.get().shape());
      backend.conv2d_backward_input(sizes, grad_output, weight.get(), grad_input);
    }
    if (needs(1)) {
      grad_weight = empty_like(grad_output, weight.get().shape());
      backend.conv2d_backward_weight(sizes, input.get(), grad_output, grad_weight);
    }
    return {grad_input, grad_weight};
  }
};

static Conv2dSizes checked_sizes(const Tensor& input, const Tensor& weight,
                                 const Conv2dOptions& options) {
  check_floating("conv2d", {&input, &weight});
  check(input.dim() == 4 && weight.dim() == 4, "conv2d: input ", input.shape(), ", weight ",
        weight.shape(),
        "; expected [batch, height, width, channels] and [kernel height, "
        "kernel width, input channels / groups, output channels]");
  // Far beyond any kernel, and small enough for the sizes of padded images to be multiplied.
  constexpr Index most_padding = Index{1} << 20;
  check(options.stride >= 1 && options.padding >= 0 && options.padding <= most_padding &&
            options.groups >= 1,
        "conv2d: stride ", options.stride, ", padding ", options.padding, ", groups ",
        options.groups, "; stride and groups must be at least 1, padding 0 to ", most_padding);
  Conv2dSizes sizes{input.size(0),   input.size(1),  input.size(2),  input.size(3),
                    weight.size(0),  weight.size(1), weight.size(3), options.stride,
                    options.padding, options.groups};
  check(sizes.in_channels % sizes.groups == 0 && sizes.in_channels / sizes.groups == weight.size(2),
        "conv2d: input has ", sizes.in_channels, " channels, weight expects ", weight.size(2),
        sizes.groups > 1 ? " in each group" : "", "; input ", input.shape(), ", weight ",
        weight.shape(), ", groups ", sizes.groups);
  check(sizes.out_channels % sizes.groups == 0, "conv2d: ", sizes.out_channels,
        " output channels can't be divided into ", sizes.groups, " groups");
  check(sizes.kernel_height >= 1 && sizes.kernel_width >= 1 &&
            sizes.height + 2 * sizes.padding >= sizes.kernel_height &&
            sizes.width + 2 * sizes.padding >= sizes.kernel_width,
        "conv2d: the kernel does not fit into the padded image; input ", input.shape(), ", weight ",
        weight.shape(), ", padding ", sizes.padding);
  // Beyond the padded image there is nothing to step to: one output pixel, whatever the stride.
  sizes.stride = std::min(sizes.stride, std::max(sizes.height, sizes.width) + 2 * sizes.padding);
  return sizes;
}

Tensor conv2d(const Tensor& input, const Tensor& weight, const Tensor& bias,
              const Conv2dOptions& options) {
  const Conv2dSizes sizes = checked_sizes(input, weight, options);
  if (bias.defined()) {
    check_floating("conv2d", {&input, &bias});
    check(bias.shape() == Shape{sizes.out_channels}, "conv2d: bias has the shape ", bias.shape(),
          ", expected [", sizes.out_channels, "]");
  }
  Tensor y =
      empty_like(input, {sizes.batch, sizes.out_height(), sizes.out_width(), sizes.out_channels});
  backend_for(input).conv2d(sizes, input, weight, y);
  if (should_record({&input, &weight}))
    record(y, std::make_shared<Conv2dNode>(sizes, input, weight), {input, weight});
  return bias.defined() ? y + bias : y;
}

}  // namespace chalk
