// Printing tensors exactly as numpy prints arrays, so that what a program shows can be compared
// with a notebook character by character.
//
//   [[ 1.5    2.   ]          as many digits as tell a number from its neighbours, at most 8 after
//    [-0.125    nan]]         the point; all elements in the same width
//   [1.0e-05 2.5e+00]         with exponents where numbers are large, small or far apart
//   [   0    1 ... 1998 1999] above 1000 elements only the first and last 3 of an axis

#include <algorithm>
#include <charconv>
#include <cmath>
#include <concepts>
#include <numeric>
#include <ostream>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace chalk {
namespace {

constexpr Index kMaxElements = 1000, kEdgeElements = 3, kEllipsis = -1;
constexpr std::size_t kLineWidth = 75;
constexpr int kMaxDecimals = 8, kAllDecimals = -1;

// As many digits as tell the value from all others of type T, or `decimals` after the point.
template <std::floating_point T>
std::string to_text(T value, bool with_exponent, int decimals = kAllDecimals) {
  if (std::isnan(value)) return "nan";  // whatever its sign bit
  const auto format = with_exponent ? std::chars_format::scientific : std::chars_format::fixed;
  char text[512];  // 309 digits before the point at most
  char* const end = text + sizeof(text);
  return {text, (decimals == kAllDecimals ? std::to_chars(text, end, value, format)
                                          : std::to_chars(text, end, value, format, decimals))
                    .ptr};
}

// Where the digits of a number end and its exponent begins, if it has one.
std::size_t end_of_digits(const std::string& text) {
  return std::min(text.find('e'), text.size());
}

template <std::integral T>
std::string format_scalar(T value) {
  return std::to_string(value);
}

// A scalar has all its digits, and one or more after the point: 2.0, 0.1234567890123, 1e-05.
template <std::floating_point T>
std::string format_scalar(T value) {
  const double size = std::abs(static_cast<double>(value));
  if (size != 0 && (size < 1e-4 || size >= 1e16)) return to_text(value, true);
  const std::string text = to_text(value, false);
  if (!std::isfinite(value) || text.find('.') != text.npos) return text;
  // Digits that float32 does not hold are 0: 123456792 is printed as 123456790.0.
  std::string digits = to_text(value, true);
  const int exponent = std::stoi(digits.substr(digits.find('e') + 1));
  digits.resize(digits.find('e'));
  std::erase(digits, '.');
  digits.resize(static_cast<std::size_t>(std::signbit(value) + 1 + exponent), '0');
  return digits + ".0";
}

// "-1.25", "2.", "2.e-05": with a point, and at most 8 digits after it.
template <typename T>
std::string shortened(T value, bool with_exponent) {
  std::string text = to_text(value, with_exponent);
  const std::size_t point = text.find('.'), end = end_of_digits(text);
  if (point == text.npos) return text.insert(end, 1, '.');
  if (end - point - 1 <= kMaxDecimals) return text;
  text = to_text(value, with_exponent, kMaxDecimals);
  const std::size_t last = text.find_last_not_of('0', end_of_digits(text) - 1);
  return text.erase(last + 1, end_of_digits(text) - last - 1);
}

// Whether some number would need many digits without an exponent, or they are far apart.
template <typename T>
bool needs_exponent(const std::vector<T>& values) {
  T smallest = 0, largest = 0;
  for (T value : values) {
    const T size = std::abs(value);
    if (!std::isfinite(size) || size == 0) continue;
    smallest = smallest == 0 ? size : std::min(smallest, size);
    largest = std::max(largest, size);
  }
  return largest > 0 && (largest >= 1e8 || smallest < 1e-4 || largest / smallest > 1000);
}

template <std::integral T>
std::vector<std::string> format_values(const std::vector<T>& values) {
  std::vector<std::string> words;
  for (T value : values)
    words.push_back(std::to_string(value));
  return words;
}

// The points stand below each other. With exponents all numbers have as many digits; without,
// blanks take the place of those that a number does not need.
template <std::floating_point T>
std::vector<std::string> format_values(const std::vector<T>& values) {
  const bool with_exponent = needs_exponent(values);
  std::vector<std::string> words;
  std::size_t decimals = 0, exponent = 0;
  for (T value : values) {
    words.push_back(std::isfinite(value) ? shortened(value, with_exponent) : to_text(value, false));
    if (!std::isfinite(value)) continue;
    const std::size_t end = end_of_digits(words.back());
    decimals = std::max(decimals, end - words.back().find('.') - 1);
    exponent = std::max(exponent, words.back().size() - end);
  }
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string& word = words[i];
    if (!std::isfinite(values[i])) continue;
    if (!with_exponent) {
      word.resize(word.find('.') + 1 + decimals, ' ');
      continue;
    }
    if (decimals > 0) word = to_text(values[i], true, static_cast<int>(decimals));
    const std::size_t e = word.find('e');
    word.insert(e + 2, exponent - (word.size() - e), '0');
  }
  return words;
}

// The elements of a tensor that are shown, in brackets.
class Layout {
 public:
  explicit Layout(const Shape& shape)
      : shape_(shape), is_summary_(element_count(shape) > kMaxElements) {}

  // Appends the positions of the elements shown below index `first` of the axes before `axis`.
  void collect(std::size_t axis, Index first, std::vector<Index>& positions) const {
    if (axis == shape_.size()) return positions.push_back(first);
    for (Index i : shown(axis))
      if (i != kEllipsis) collect(axis + 1, first * shape_[axis] + i, positions);
  }

  // The words, which are in the order of collect(), in brackets, from *word on.
  std::string print(std::size_t axis, const std::string*& word) const {
    if (axis + 1 == shape_.size()) return print_row(word);
    const std::string line_break =
        std::string(shape_.size() - axis - 1, '\n') + std::string(axis + 1, ' ');
    std::string text = "[";
    for (Index i : shown(axis)) {
      if (text.size() > 1) text += line_break;
      text += i == kEllipsis ? "..." : print(axis + 1, word);
    }
    return text + "]";
  }

 private:
  // The innermost axis, in lines that are full or end it.
  std::string print_row(const std::string*& word) const {
    const std::size_t indent = shape_.size();  // the width of the brackets that are open
    std::string text = "[", line;
    for (Index i : shown(indent - 1)) {
      const std::string next = i == kEllipsis ? "..." : *word++;
      if (!line.empty() && indent + line.size() + next.size() > kLineWidth - indent) {
        line.resize(line.find_last_not_of(' ') + 1);
        text += line + '\n' + std::string(indent, ' ');
        line.clear();
      }
      line += next + ' ';
    }
    line.pop_back();
    return text + line + "]";
  }

  // The indices of an axis, or those at its two ends and an ellipsis.
  std::vector<Index> shown(std::size_t axis) const {
    std::vector<Index> indices(static_cast<std::size_t>(shape_[axis]));
    std::iota(indices.begin(), indices.end(), 0);
    if (!is_summary_ || shape_[axis] <= 2 * kEdgeElements) return indices;
    indices.erase(indices.begin() + kEdgeElements, indices.end() - kEdgeElements);
    indices.insert(indices.begin() + kEdgeElements, kEllipsis);
    return indices;
  }

  const Shape& shape_;
  bool is_summary_;
};

template <typename T>
std::string format(const Tensor& tensor) {
  const T* elements = tensor.data<T>();
  if (tensor.dim() == 0) return format_scalar(*elements);
  const Layout layout(tensor.shape());
  std::vector<Index> positions;
  layout.collect(0, 0, positions);
  std::vector<T> values;
  for (Index position : positions)
    values.push_back(elements[position]);

  std::vector<std::string> words = format_values(values);
  std::size_t width = 0;
  for (const std::string& word : words)
    width = std::max(width, word.size());
  for (std::string& word : words)
    word.insert(0, width - word.size(), ' ');
  const std::string* word = words.data();
  return layout.print(0, word);
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Tensor& tensor) {
  if (!tensor.defined()) return out << "Tensor()";
  if (tensor.numel() == 0) return out << "[]";
  const Tensor here = tensor.to(Device::cpu);
  switch (here.dtype()) {
    case DType::float32:
      return out << format<float>(here);
    case DType::float64:
      return out << format<double>(here);
    case DType::int64:
      return out << format<std::int64_t>(here);
    case DType::uint8:
      return out << format<std::uint8_t>(here);
  }
  return out;
}

}  // namespace chalk
