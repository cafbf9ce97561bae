// Sizes: the shape of a tensor and the geometry of the operations on images.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

namespace chalk {

using Index = std::int64_t;

// The size of every axis, outermost first. {} is the shape of a scalar; it has one element.
using Shape = std::vector<Index>;

// The number of elements of a tensor of this shape. Throws Error for negative sizes, and where
// their product, those of 0 left out, is so large that bytes or sums of a few sizes would not fit
// Index.
Index element_count(const Shape& shape);

// "[32, 56, 56, 64]"
std::string to_string(const Shape& shape);
std::ostream& operator<<(std::ostream& out, const Shape& shape);

// One 2-d convolution, channels last; stride and padding are the same in both directions.
//   input  [batch, height, width, in_channels]
//   weight [kernel_height, kernel_width, in_channels / groups, out_channels]
//   output [batch, out_height(), out_width(), out_channels]
// Output channel o belongs to group o / (out_channels / groups), as in PyTorch.
struct Conv2dSizes {
  Index batch, height, width, in_channels;
  Index kernel_height, kernel_width, out_channels;
  Index stride = 1, padding = 0, groups = 1;

  constexpr Index out_height() const { return (height + 2 * padding - kernel_height) / stride + 1; }
  constexpr Index out_width() const { return (width + 2 * padding - kernel_width) / stride + 1; }
  bool operator==(const Conv2dSizes&) const = default;
};

// One 2-d pooling with a square window; padding never wins a maximum.
//   input  [batch, height, width, channels]
//   output [batch, out_height(), out_width(), channels]
struct Pool2dSizes {
  Index batch, height, width, channels;
  Index kernel, stride, padding;

  constexpr Index out_height() const { return (height + 2 * padding - kernel) / stride + 1; }
  constexpr Index out_width() const { return (width + 2 * padding - kernel) / stride + 1; }
};

// CBAM on a map [batch, height, width, channels]; `hidden` is the size of the channel attention's
// inner layer.
struct CbamSizes {
  Index batch, height, width, channels, hidden;

  constexpr Index pixels() const { return height * width; }
};

}  // namespace chalk
