#include <doctest/doctest.h>

#include <charconv>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "autograd/check.h"
#include "autograd/tensor.h"

using namespace chalk;

namespace {

std::string print(const Tensor& tensor) {
  std::ostringstream out;
  out << tensor;
  return out.str();
}

// A tensor of the elements in a line of print.txt.
template <typename T>
Tensor parse(const std::string& line, const Shape& shape) {
  const std::string steps = "steps of ";
  std::vector<T> values;
  if (line.starts_with(steps)) {
    const double step = std::stod(line.substr(steps.size()));
    for (Index i = 0; i < element_count(shape); ++i)
      values.push_back(static_cast<T>(static_cast<double>(i) * step));
  } else {
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      T value{};
      REQUIRE(std::from_chars(word.data(), word.data() + word.size(), value).ec == std::errc());
      values.push_back(value);
    }
  }
  return Tensor::from(values, shape);
}

Tensor parse(const std::string& dtype, const std::string& line, const Shape& shape) {
  if (dtype == "float32") return parse<float>(line, shape);
  if (dtype == "float64") return parse<double>(line, shape);
  if (dtype == "int64") return parse<std::int64_t>(line, shape);
  return parse<std::uint8_t>(line, shape);
}

}  // namespace

TEST_CASE("tensors print as numpy prints arrays") {
  std::ifstream file(CHALK_FIXTURES "/print.txt");
  int blocks = 0;
  for (std::string header; std::getline(file, header); ++blocks) {
    std::istringstream words(header);
    std::string dtype;
    words >> dtype;
    Shape shape;
    for (Index size = 0; words >> size;)
      shape.push_back(size);

    std::string elements, text, line;
    std::getline(file, elements);
    while (std::getline(file, line) && line != "----")
      text += (text.empty() ? "" : "\n") + line;
    INFO(header << ": " << elements);
    CHECK(print(parse(dtype, elements, shape)) == text);
  }
  CHECK(blocks == 108);
}

TEST_CASE("a NaN prints without its sign") {
  CHECK(print(Tensor::from<float>({-std::numeric_limits<float>::quiet_NaN(), 1}, {2})) ==
        "[nan  1.]");
  CHECK(print(Tensor()) == "Tensor()");
}
