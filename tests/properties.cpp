#include "tests/properties.h"

#include <algorithm>
#include <random>
#include <sstream>

#include "autograd/backend.h"
#include "autograd/operations.h"

namespace chalk::testing {
namespace {

// ---- drawing ----

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : engine_(seed) {}

  Index below(Index count) {
    return static_cast<Index>(engine_() % static_cast<std::uint64_t>(count));
  }
  bool once_in(Index count) { return below(count) == 0; }
  Index between(Index least, Index most) { return least + below(most - least + 1); }
  template <typename T>
  T one_of(const std::vector<T>& choices) {
    return choices[static_cast<std::size_t>(below(static_cast<Index>(choices.size())))];
  }

  // 1, a prime, a power of two or one of its neighbours, at most `most`; now and then 0.
  Index size(Index most, Index least = 0) {
    static const std::vector<Index> sizes = {1,  1,  2,  2,  3,  3,  4,   5,   7,   8,   9,
                                             11, 13, 15, 16, 17, 19, 23,  31,  32,  33,  37,
                                             61, 63, 64, 65, 67, 97, 127, 128, 129, 255, 257};
    if (least == 0 && once_in(40)) return 0;
    const auto end = std::upper_bound(sizes.begin(), sizes.end(), most);
    return std::max(least, sizes[static_cast<std::size_t>(below(end - sizes.begin()))]);
  }

  // So many axes, with at most `most` elements.
  Shape shape(Index axes, Index most) {
    Shape shape;
    for (Index axis = 0; axis < axes; ++axis) {
      shape.push_back(size(std::max<Index>(1, most)));
      most /= std::max<Index>(1, shape.back());
    }
    std::shuffle(shape.begin(), shape.end(), engine_);
    return shape;
  }

  // About normal: sums of four uniform numbers.
  Tensor normal(const Shape& shape, double scale = 1, double mean = 0) {
    return tensor(shape, [&] {
      double sum = 0;
      for (int i = 0; i < 4; ++i)
        sum += static_cast<double>(below(1 << 20)) * 0x1p-20 - 0.5;
      return mean + scale * 1.73 * sum;
    });
  }
  Tensor positive(const Shape& shape) {
    return tensor(shape, [&] { return 0.2 + static_cast<double>(below(1 << 20)) * 0x1p-19; });
  }
  // Few different values, so that there are equal ones.
  Tensor few_values(const Shape& shape) {
    return tensor(shape, [&] { return static_cast<double>(between(-4, 4)) / 4; });
  }

 private:
  template <typename Number>
  Tensor tensor(const Shape& shape, const Number& number) {
    std::vector<double> values(static_cast<std::size_t>(element_count(shape)));
    for (double& value : values)
      value = static_cast<float>(number());
    return Tensor::from(values, shape);
  }

  std::mt19937_64 engine_;
};

template <typename... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// ---- indices ----

// The index of element i in row-major order, and the way back.
Shape index_of(const Shape& shape, Index i) {
  Shape index(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0; i /= shape[axis])
    index[axis] = i % shape[axis];
  return index;
}
std::size_t place_of(const Shape& shape, const Shape& index) {
  Index place = 0;
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    place = place * shape[axis] + index[axis];
  return static_cast<std::size_t>(place);
}

Scalars zeros(Index count) {
  return Scalars(static_cast<std::size_t>(count), 0);
}

// ---- elementwise ----

// One shape of two that broadcast to `result`: some axes are 1, some of the first are missing.
Shape broadcastable(Draw& draw, Shape result) {
  for (Index& size : result)
    if (draw.once_in(4)) size = 1;
  if (draw.once_in(3)) result.erase(result.begin(), result.begin() + draw.below(result.size() + 1));
  return result;
}

// The element of x [shape] that stands at `index` of what it is broadcast to.
const Scalar& broadcast(const Scalars& x, const Shape& shape, const Shape& index) {
  Shape own(index.end() - static_cast<std::ptrdiff_t>(shape.size()), index.end());
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    own[axis] = std::min(own[axis], shape[axis] - 1);
  return x[place_of(shape, own)];
}

Trial draw_arithmetic(Draw& draw) {
  const char sign = draw.one_of<char>({'+', '-', '*', '/'});
  const Shape all = draw.shape(draw.below(6), 2000);
  const Shape a = broadcastable(draw, all), b = broadcastable(draw, all);
  Shape result;  // what they really broadcast to: an axis may be 1 in both
  for (std::size_t axis = 0; axis < std::max(a.size(), b.size()); ++axis) {
    const auto size = [axis](const Shape& s) {
      return axis < s.size() ? s[s.size() - 1 - axis] : 1;
    };
    result.insert(result.begin(), size(a) == 1 ? size(b) : size(a));
  }
  const auto combine = [sign](const auto& x, const auto& y) {
    return sign == '+' ? x + y : sign == '-' ? x - y : sign == '*' ? x * y : x / y;
  };
  return {text("operator", sign, ": ", a, " and ", b),
          {draw.normal(a), sign == '/' ? draw.positive(b) : draw.normal(b)},
          2,
          [=](const Tensors& x) { return combine(x[0], x[1]); },
          [=](std::vector<Scalars>& x) {
            Scalars y;
            for (Index i = 0; i < element_count(result); ++i) {
              const Shape index = index_of(result, i);
              y.push_back(combine(broadcast(x[0], a, index), broadcast(x[1], b, index)));
            }
            return y;
          }};
}

Trial draw_scalar_arithmetic(Draw& draw) {
  const Shape shape = draw.shape(draw.below(4), 500);
  const int which = static_cast<int>(draw.below(9));
  const double number = draw.one_of<double>({-2.5, -1, 0.5, 3});
  const auto call = [which](const auto& x, const auto& c) {
    switch (which) {
      case 0:
        return x + c;
      case 1:
        return x - c;
      case 2:
        return x * c;
      case 3:
        return x / c;
      case 4:
        return c + x;
      case 5:
        return c - x;
      case 6:
        return c * x;
      case 7:
        return c / x;
      default:
        return x * -1.0;
    }
  };
  return {text("an operator with a number: ", which, " of +-*/ on the right, then left, or -x; ",
               shape, ", ", number),
          {draw.positive(shape)},
          1,
          [=](const Tensors& x) { return which == 8 ? -x[0] : call(x[0], number); },
          [=](std::vector<Scalars>& x) {
            for (Scalar& element : x[0])
              element = call(element, Scalar(number));
            return x[0];
          }};
}

Trial draw_function(Draw& draw) {
  struct Function {
    const char* name;
    Tensor (*operation)(const Tensor&);
    Scalar (*plain)(const Scalar&);
  };
  const Function f = draw.one_of<Function>({{"exp", chalk::exp, exp},
                                            {"log", chalk::log, log},
                                            {"sqrt", chalk::sqrt, sqrt},
                                            {"relu", chalk::relu, relu},
                                            {"sigmoid", chalk::sigmoid, sigmoid},
                                            {"tanh", chalk::tanh, tanh}});
  const Shape shape = draw.shape(draw.below(4), 3000);
  const std::string name = f.name;
  return {text(name, ": ", shape),
          {name == "log" || name == "sqrt" ? draw.positive(shape)
           : name == "relu"                ? draw.few_values(shape)
                                           : draw.normal(shape, draw.one_of<double>({0.01, 1, 8}))},
          1,
          [f](const Tensors& x) { return f.operation(x[0]); },
          [f](std::vector<Scalars>& x) {
            for (Scalar& element : x[0])
              element = f.plain(element);
            return x[0];
          }};
}

// ---- reductions ----

// For every element of x [shape], the element of the result it is reduced to.
std::vector<std::size_t> reduced_places(const Shape& shape, const std::vector<Index>& axes) {
  Shape result = shape;
  for (const Index axis : axes)
    result[static_cast<std::size_t>(axis)] = 1;
  std::vector<std::size_t> places;
  for (Index i = 0; i < element_count(shape); ++i) {
    Shape index = index_of(shape, i);
    for (const Index axis : axes)
      index[static_cast<std::size_t>(axis)] = 0;
    places.push_back(place_of(result, index));
  }
  return places;
}

std::vector<Index> every_axis(const Shape& shape) {
  std::vector<Index> axes(shape.size());
  for (std::size_t axis = 0; axis < axes.size(); ++axis)
    axes[axis] = static_cast<Index>(axis);
  return axes;
}

Trial draw_reduction(Draw& draw) {
  const std::string name = draw.one_of<std::string>({"sum", "mean", "max"});
  Shape shape = draw.shape(draw.below(5), draw.one_of<Index>({100, 3000}));
  std::vector<Index> axes, given;  // as they are, and as they are said
  for (const Index axis : every_axis(shape))
    if (draw.once_in(2)) axes.push_back(axis);
  Index terms = 1;
  for (const Index axis : axes.empty() ? every_axis(shape) : axes) {
    Index& size = shape[static_cast<std::size_t>(axis)];
    if (name != "sum") size = std::max<Index>(size, 1);  // of nothing there is no maximum
    terms *= size;
  }
  for (const Index axis : axes)
    given.push_back(draw.once_in(2) ? axis : axis - static_cast<Index>(shape.size()));
  if (axes.empty()) axes = every_axis(shape);
  const bool keepdim = draw.once_in(2);
  Index count = 1;
  for (const Index axis : every_axis(shape))
    if (std::find(axes.begin(), axes.end(), axis) == axes.end())
      count *= shape[static_cast<std::size_t>(axis)];
  using Reduction = Tensor (*)(const Tensor&, const std::vector<Index>&, bool);
  const Reduction operation = name == "sum" ? sum : name == "mean" ? mean : chalk::max;
  return {text(name, ": ", shape, " over the axes ", given, keepdim ? ", kept" : ""),
          {name == "max" ? draw.few_values(shape) : draw.normal(shape)},
          1,
          [=](const Tensors& x) { return operation(x[0], given, keepdim); },
          [=](std::vector<Scalars>& x) {
            const std::vector<std::size_t> places = reduced_places(shape, axes);
            Scalars y = zeros(count);
            std::vector<bool> seen(y.size());
            for (std::size_t i = 0; i < places.size(); ++i) {
              Scalar& to = y[places[i]];
              to = name != "max" ? to + x[0][i] : seen[places[i]] ? max(to, x[0][i]) : x[0][i];
              seen[places[i]] = true;
            }
            for (Scalar& element : y)
              if (name == "mean") element = element / static_cast<double>(terms);
            return y;
          }};
}

Trial draw_argmax(Draw& draw) {
  Shape shape = draw.shape(draw.between(1, 4), 3000);
  const Index axis = draw.below(static_cast<Index>(shape.size()));
  Index& length = shape[static_cast<std::size_t>(axis)];
  length = std::max<Index>(length, 1);
  return {text("argmax: ", shape, " along axis ", axis),
          {draw.few_values(shape)},
          0,
          [=](const Tensors& x) { return argmax(x[0], axis); },
          [=](std::vector<Scalars>& x) {
            const std::vector<std::size_t> places = reduced_places(shape, {axis});
            Scalars largest = zeros(element_count(shape) / shape[static_cast<std::size_t>(axis)]);
            Scalars y = largest;
            for (std::size_t i = 0; i < places.size(); ++i) {
              const Index at =
                  index_of(shape, static_cast<Index>(i))[static_cast<std::size_t>(axis)];
              if (at > 0 && x[0][i].value <= largest[places[i]].value) continue;
              largest[places[i]] = x[0][i];
              y[places[i]] = static_cast<double>(at);
            }
            return y;
          }};
}

// ---- movement ----

// A call whose result's element i is element from(i) of all inputs one after the other.
Trial movement(const std::string& call, const Tensors& inputs,
               const std::function<Tensor(const Tensors&)>& operation, Index count,
               const std::function<std::size_t(Index)>& from) {
  return {call, inputs, inputs.size(), operation, [=](std::vector<Scalars>& x) {
            Scalars all, y;
            for (const Scalars& each : x)
              all.insert(all.end(), each.begin(), each.end());
            for (Index i = 0; i < count; ++i)
              y.push_back(all[from(i)]);
            return y;
          }};
}

Trial draw_reshape(Draw& draw) {
  const Shape to = draw.shape(draw.below(5), 1000);
  Shape given = to, from = {element_count(to)};
  if (from[0] > 0 && !to.empty() && draw.once_in(2))
    given[static_cast<std::size_t>(draw.below(static_cast<Index>(to.size())))] = -1;
  return movement(
      text("reshape: ", from, " to ", given), {draw.normal(from)},
      [=](const Tensors& x) { return reshape(x[0], given); }, from[0],
      [](Index i) { return static_cast<std::size_t>(i); });
}

Trial draw_permute(Draw& draw) {
  const Shape shape = draw.shape(draw.between(2, 5), 3000);
  std::vector<Index> axes = every_axis(shape);
  const bool two = draw.once_in(3);
  for (std::size_t left = axes.size(); left > 1; --left)
    if (!two || left == axes.size())
      std::swap(axes[left - 1],
                axes[static_cast<std::size_t>(draw.below(static_cast<Index>(left)))]);
  Shape result;
  for (const Index axis : axes)
    result.push_back(shape[static_cast<std::size_t>(axis)]);
  const Index last = static_cast<Index>(shape.size()) - 1;
  return movement(
      text(two ? "transpose: " : "permute: ", shape, " to the axes ", axes), {draw.normal(shape)},
      [=](const Tensors& x) {
        return two ? transpose(x[0], axes.back(), last) : permute(x[0], axes);
      },
      element_count(shape),
      [=](Index i) {
        const Shape index = index_of(result, i);
        Shape from(shape.size());
        for (std::size_t axis = 0; axis < axes.size(); ++axis)
          from[static_cast<std::size_t>(axes[axis])] = index[axis];
        return place_of(shape, from);
      });
}

Trial draw_concatenate(Draw& draw) {
  Shape shape = draw.shape(draw.between(1, 4), 500);
  const std::size_t axis = static_cast<std::size_t>(draw.below(static_cast<Index>(shape.size())));
  Tensors inputs;
  Shape result = shape, starts;  // along the axis
  result[axis] = 0;
  for (Index count = draw.between(1, 4); count > 0; --count) {
    shape[axis] = draw.size(20);
    starts.push_back(result[axis]);
    result[axis] += shape[axis];
    inputs.push_back(draw.normal(shape));
  }
  return movement(
      text("concatenate: to ", result, " along axis ", axis, ", from ", starts), inputs,
      [=](const Tensors& x) { return concatenate(x, static_cast<Index>(axis)); },
      element_count(result),
      [=](Index i) {
        Shape index = index_of(result, i);
        std::size_t before = 0, part = 0;
        while (part + 1 < starts.size() && starts[part + 1] <= index[axis])
          before += static_cast<std::size_t>(inputs[part++].numel());
        index[axis] -= starts[part];
        return before + place_of(inputs[part].shape(), index);
      });
}

Trial draw_slice(Draw& draw) {
  const Shape shape = draw.shape(draw.between(1, 4), 2000);
  const std::size_t axis = static_cast<std::size_t>(draw.below(static_cast<Index>(shape.size())));
  const Index begin = draw.between(0, shape[axis]), end = draw.between(begin, shape[axis]);
  Shape result = shape;
  result[axis] = end - begin;
  return movement(
      text("slice: ", shape, " along axis ", axis, ", [", begin, ", ", end, ")"),
      {draw.normal(shape)},
      [=](const Tensors& x) { return slice(x[0], static_cast<Index>(axis), begin, end); },
      element_count(result),
      [=](Index i) {
        Shape index = index_of(result, i);
        index[axis] += begin;
        return place_of(shape, index);
      });
}

// ---- matrices ----

// y [rows, columns] = a [rows, inner] b [inner, columns] for one of the batch's matrices each;
// b_row and b_column are the steps through b, so that it may be transposed.
void plain_product(Index rows, Index inner, Index columns, const Scalar* a, const Scalar* b,
                   Index b_row, Index b_column, Scalar* y) {
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < columns; ++j)
      for (Index k = 0; k < inner; ++k) {
        const Scalar product = a[i * inner + k] * b[k * b_row + j * b_column];
        y[i * columns + j] = k == 0 ? product : y[i * columns + j] + product;
      }
}

Trial draw_matmul(Draw& draw) {
  const Shape batch = draw.once_in(2) ? Shape{} : draw.shape(draw.between(1, 2), 12);
  const bool one_a = draw.once_in(3), one_b = draw.once_in(3);
  const Index rows = draw.size(70), columns = draw.size(70);
  const Index products = rows * columns * std::max<Index>(1, element_count(batch));
  const Index inner = draw.size(std::clamp<Index>(60'000 / std::max<Index>(1, products), 1, 257));
  Shape a = one_a ? Shape{} : batch, b = one_b ? Shape{} : batch;
  a.insert(a.end(), {rows, inner});
  b.insert(b.end(), {inner, columns});
  const Index count = one_a && one_b ? 1 : element_count(batch);
  const Index a_step = one_a ? 0 : rows * inner, b_step = one_b ? 0 : inner * columns;
  return {text("matmul: ", a, " and ", b),
          {draw.normal(a), draw.normal(b)},
          2,
          [](const Tensors& x) { return matmul(x[0], x[1]); },
          [=](std::vector<Scalars>& x) {
            Scalars y = zeros(count * rows * columns);
            for (Index n = 0; n < count; ++n)
              plain_product(rows, inner, columns, x[0].data() + n * a_step,
                            x[1].data() + n * b_step, columns, 1, y.data() + n * rows * columns);
            return y;
          },
          Ladder::products};
}

// ---- softmax ----

// In place, over x[0], x[step], ...
void plain_softmax(Index length, Index step, Scalar* x, bool logarithm) {
  double largest = x[0].value;
  for (Index i = 1; i < length; ++i)
    largest = std::max(largest, x[i * step].value);
  Scalar sum = 0;
  for (Index i = 0; i < length; ++i)
    sum = sum + exp(x[i * step] - largest);
  for (Index i = 0; i < length; ++i) {
    Scalar& element = x[i * step];
    element = logarithm ? element - largest - log(sum) : exp(element - largest) / sum;
  }
}

Trial draw_softmax(Draw& draw) {
  const Shape shape = draw.shape(draw.between(1, 4), 3000);
  const std::size_t axis = static_cast<std::size_t>(draw.below(static_cast<Index>(shape.size())));
  const bool logarithm = draw.once_in(2);
  const Index length = shape[axis];
  Index inner = 1;
  for (std::size_t after = axis + 1; after < shape.size(); ++after)
    inner *= shape[after];
  return {text(logarithm ? "log_softmax: " : "softmax: ", shape, " along axis ", axis),
          {draw.normal(shape, draw.one_of<double>({0.1, 1, 10}))},
          1,
          [=](const Tensors& x) {
            const Index along = static_cast<Index>(axis);
            return logarithm ? log_softmax(x[0], along) : softmax(x[0], along);
          },
          [=](std::vector<Scalars>& x) {
            const Index count = element_count(shape);
            for (Index i = 0; i < count; ++i)
              if (i / inner % length == 0) plain_softmax(length, inner, x[0].data() + i, logarithm);
            return x[0];
          }};
}

Trial draw_cross_entropy(Draw& draw) {
  const Index batch = draw.size(33, 1), classes = draw.size(70, 1);
  std::vector<std::int64_t> labels(static_cast<std::size_t>(batch));
  for (std::int64_t& label : labels)
    label = draw.below(classes);
  return {text("cross_entropy: ", Shape{batch, classes}),
          {draw.normal({batch, classes}, draw.one_of<double>({0.1, 1, 10}))},
          1,
          [=](const Tensors& x) {
            return cross_entropy(x[0], Tensor::from(labels, {batch}).to(x[0].device()));
          },
          [=](std::vector<Scalars>& x) {
            Scalar sum = 0;
            for (Index n = 0; n < batch; ++n) {
              plain_softmax(classes, 1, x[0].data() + n * classes, true);
              sum =
                  sum -
                  x[0][static_cast<std::size_t>(n * classes + labels[static_cast<std::size_t>(n)])];
            }
            return Scalars{sum / static_cast<double>(batch)};
          }};
}

Trial draw_attention(Draw& draw) {
  const Shape batch = draw.shape(draw.below(3), 6);
  const Index t = draw.size(17), s = draw.size(17, 1), d = draw.size(20, 1), e = draw.size(20);
  const auto shape = [&](Index rows, Index columns) {
    Shape all = batch;
    all.insert(all.end(), {rows, columns});
    return all;
  };
  const Index count = element_count(batch);
  return {text("scaled_dot_product_attention: query ", shape(t, d), ", key ", shape(s, d),
               ", value ", shape(s, e)),
          {draw.normal(shape(t, d)), draw.normal(shape(s, d)), draw.normal(shape(s, e))},
          3,
          [](const Tensors& x) { return scaled_dot_product_attention(x[0], x[1], x[2]); },
          [=](std::vector<Scalars>& x) {
            Scalars y = zeros(count * t * e), scores = zeros(t * s);
            for (Index n = 0; n < count; ++n) {
              plain_product(t, d, s, x[0].data() + n * t * d, x[1].data() + n * s * d, 1, d,
                            scores.data());
              for (Scalar& score : scores)
                score = score / std::sqrt(static_cast<double>(d));
              for (Index row = 0; row < t; ++row)
                plain_softmax(s, 1, scores.data() + row * s, false);
              plain_product(t, s, e, scores.data(), x[2].data() + n * s * e, e, 1,
                            y.data() + n * t * e);
            }
            return y;
          },
          Ladder::products};
}

// ---- convolution ----

Scalars plain_conv2d(const Conv2dSizes& s, const Scalars& x, const Scalars& weight) {
  const Index in = s.in_channels / s.groups, out = s.out_channels / s.groups;
  Scalars y;
  for (Index n = 0; n < s.batch; ++n)
    for (Index h = 0; h < s.out_height(); ++h)
      for (Index w = 0; w < s.out_width(); ++w)
        for (Index o = 0; o < s.out_channels; ++o) {
          Scalar sum = 0;
          for (Index i = 0; i < s.kernel_height; ++i)
            for (Index j = 0; j < s.kernel_width; ++j) {
              const Index row = h * s.stride + i - s.padding, column = w * s.stride + j - s.padding;
              if (row < 0 || row >= s.height || column < 0 || column >= s.width) continue;
              const Index pixel = (n * s.height + row) * s.width + column;
              for (Index c = 0; c < in; ++c)
                sum = sum + x[static_cast<std::size_t>(pixel * s.in_channels + o / out * in + c)] *
                                weight[static_cast<std::size_t>(
                                    ((i * s.kernel_width + j) * in + c) * s.out_channels + o)];
            }
          y.push_back(sum);
        }
  return y;
}

// Any convolution of at most about 60,000 products. One in four is of the kinds that networks are
// made of and the fast rungs are made for.
Conv2dSizes draw_convolution(Draw& draw) {
  for (;;) {
    Conv2dSizes s{};
    s.kernel_height = draw.between(1, 11);
    s.kernel_width = draw.once_in(2) ? s.kernel_height : draw.between(1, 11);
    s.stride = draw.once_in(2) ? 1 : draw.between(2, 2 + std::max(s.kernel_height, s.kernel_width));
    s.padding = draw.once_in(3) ? 0 : draw.between(1, s.kernel_height + 2);
    if (draw.once_in(4)) {
      s.kernel_height = s.kernel_width = draw.one_of<Index>({1, 3, 3, 3, 7});
      s.stride = draw.one_of<Index>({1, 1, 2});
      s.padding = draw.once_in(3) ? draw.below(3) : s.kernel_height / 2;
    }
    s.batch = draw.size(9);
    s.height = draw.size(40);
    s.width = draw.size(40);
    s.groups = draw.once_in(2) ? 1 : draw.size(33, 1);
    s.in_channels = s.groups * (draw.once_in(3) ? 1 : draw.size(70));
    s.out_channels = s.groups * (draw.once_in(3) ? draw.between(1, 3) : draw.size(70));
    if (s.height + 2 * s.padding < s.kernel_height || s.width + 2 * s.padding < s.kernel_width)
      continue;
    const Index taps = s.kernel_height * s.kernel_width * s.in_channels / s.groups;
    const Index outputs = s.batch * s.out_height() * s.out_width() * s.out_channels;
    if (outputs * (taps + 1) <= 60'000 && s.in_channels * s.height * s.width * s.batch <= 60'000 &&
        taps * s.out_channels <= 60'000)
      return s;
  }
}

Trial draw_conv2d(Draw& draw) {
  const Conv2dSizes s = draw_convolution(draw);
  const Shape input = {s.batch, s.height, s.width, s.in_channels};
  const Shape weight = {s.kernel_height, s.kernel_width, s.in_channels / s.groups, s.out_channels};
  const bool bias = draw.once_in(3);
  Tensors inputs = {draw.normal(input), draw.normal(weight)};
  if (bias) inputs.push_back(draw.normal({s.out_channels}));
  return {text("conv2d: input ", input, ", weight ", weight, ", stride ", s.stride, ", padding ",
               s.padding, ", groups ", s.groups, bias ? ", with bias" : ""),
          inputs,
          inputs.size(),
          [=](const Tensors& x) {
            return conv2d(x[0], x[1], bias ? x[2] : Tensor(), {s.stride, s.padding, s.groups});
          },
          [=](std::vector<Scalars>& x) {
            Scalars y = plain_conv2d(s, x[0], x[1]);
            for (std::size_t i = 0; bias && i < y.size(); ++i)
              y[i] = y[i] + x[2][i % x[2].size()];
            return y;
          },
          Ladder::convolutions};
}

// ---- pooling ----

Scalars plain_max_pool2d(const Pool2dSizes& s, const Scalars& x) {
  Scalars y;
  for (Index n = 0; n < s.batch; ++n)
    for (Index h = 0; h < s.out_height(); ++h)
      for (Index w = 0; w < s.out_width(); ++w)
        for (Index c = 0; c < s.channels; ++c) {
          const Index top = h * s.stride - s.padding, left = w * s.stride - s.padding;
          Scalar largest = -1e300;
          for (Index row = std::max<Index>(0, top); row < std::min(s.height, top + s.kernel); ++row)
            for (Index column = std::max<Index>(0, left);
                 column < std::min(s.width, left + s.kernel); ++column)
              largest =
                  max(largest, x[static_cast<std::size_t>(
                                   ((n * s.height + row) * s.width + column) * s.channels + c)]);
          y.push_back(largest);
        }
  return y;
}

Pool2dSizes draw_pooling(Draw& draw, Index least_batch) {
  for (;;) {
    Pool2dSizes s{};
    s.kernel = draw.between(1, draw.once_in(4) ? 15 : 5);
    s.stride = draw.between(1, s.kernel + 1);
    s.padding = draw.between(0, s.kernel / 2);
    s.batch = draw.size(5, least_batch);
    s.height = draw.size(40, 1);
    s.width = draw.size(40, 1);
    s.channels = draw.size(129, 1);
    if (std::min(s.height, s.width) + 2 * s.padding < s.kernel) continue;
    const Index outputs = s.batch * s.out_height() * s.out_width() * s.channels;
    if (outputs * s.kernel * s.kernel <= 30'000 &&
        s.batch * s.height * s.width * s.channels <= 10'000)
      return s;
  }
}

Trial draw_max_pool2d(Draw& draw) {
  const Pool2dSizes s = draw_pooling(draw, 0);
  const Shape input = {s.batch, s.height, s.width, s.channels};
  return {text("max_pool2d: ", input, ", kernel ", s.kernel, ", stride ", s.stride, ", padding ",
               s.padding),
          {draw.few_values(input)},
          1,
          [=](const Tensors& x) { return max_pool2d(x[0], s.kernel, s.stride, s.padding); },
          [=](std::vector<Scalars>& x) { return plain_max_pool2d(s, x[0]); }};
}

// The mean or maximum of x [batch, pixels, channels] over the pixels.
Scalars plain_global_pool(Index batch, Index pixels, Index channels, const Scalars& x, bool mean) {
  Scalars y;
  for (Index n = 0; n < batch; ++n)
    for (Index c = 0; c < channels; ++c) {
      const auto at = [&](Index pixel) {
        return x[static_cast<std::size_t>((n * pixels + pixel) * channels + c)];
      };
      Scalar result = at(0);
      for (Index pixel = 1; pixel < pixels; ++pixel)
        result = mean ? result + at(pixel) : max(result, at(pixel));
      y.push_back(mean ? result / static_cast<double>(pixels) : result);
    }
  return y;
}

Trial draw_global_pool(Draw& draw) {
  const Index batch = draw.size(5), height = draw.size(17, 1), width = draw.size(17, 1);
  const Index channels = draw.size(33);
  const bool mean = draw.once_in(2);
  const Shape input = {batch, height, width, channels};
  return {
      text(mean ? "global_average_pool: " : "global_max_pool: ", input),
      {mean ? draw.normal(input) : draw.few_values(input)},
      1,
      [=](const Tensors& x) { return mean ? global_average_pool(x[0]) : global_max_pool(x[0]); },
      [=](std::vector<Scalars>& x) {
        return plain_global_pool(batch, height * width, channels, x[0], mean);
      }};
}

// ---- normalisation ----

// x[0], x[step], ..., to mean 0 and variance 1, by their own mean and variance, which it returns.
std::pair<Scalar, Scalar> plain_normalize(Index length, Index step, double eps, Scalar* x) {
  const double count = static_cast<double>(length);
  Scalar sum = 0, squares = 0;
  for (Index i = 0; i < length; ++i)
    sum = sum + x[i * step];
  const Scalar mean = sum / count;
  for (Index i = 0; i < length; ++i)
    squares = squares + (x[i * step] - mean) * (x[i * step] - mean);
  const Scalar variance = squares / count;
  for (Index i = 0; i < length; ++i)
    x[i * step] = (x[i * step] - mean) / sqrt(variance + eps);
  return {mean, variance};
}

// In place on x [rows, channels]; the running statistics change in training.
void plain_batch_norm(Scalars& x, const Scalars& gamma, const Scalars& beta, Scalars& running_mean,
                      Scalars& running_variance, const BatchNormOptions& options) {
  const Index channels = static_cast<Index>(gamma.size());
  const Index rows = static_cast<Index>(x.size()) / channels;
  for (Index c = 0; c < channels; ++c) {
    const std::size_t at = static_cast<std::size_t>(c);
    if (options.training) {
      const auto [mean, variance] = plain_normalize(rows, channels, options.eps, x.data() + c);
      const double m = options.momentum,
                   unbiased = m * static_cast<double>(rows) / static_cast<double>(rows - 1);
      running_mean[at] = running_mean[at] * (1 - m) + mean * m;
      running_variance[at] = running_variance[at] * (1 - m) + variance * unbiased;
    }
    for (Index r = 0; r < rows; ++r) {
      Scalar& element = x[static_cast<std::size_t>(r * channels + c)];
      if (!options.training)
        element = (element - running_mean[at]) / sqrt(running_variance[at] + options.eps);
      element = element * gamma[at] + beta[at];
      if (options.relu) element = relu(element);
    }
  }
}

BatchNormOptions draw_options(Draw& draw) {
  return {!draw.once_in(3), draw.once_in(2), draw.one_of<double>({0, 0.1, 0.5, 1}),
          draw.one_of<double>({1e-5, 1e-3, 0.1})};
}

std::string describe(const BatchNormOptions& options) {
  return text(options.training ? ", training" : ", evaluation", options.relu ? ", relu" : "",
              ", momentum ", options.momentum, ", eps ", options.eps);
}

// Input, gamma and beta as leaves, then the running mean and variance.
Tensors batch_norm_inputs(Draw& draw, const Shape& x) {
  const Shape channels = {x.back()};
  return {draw.normal(x, 1, draw.one_of<double>({0, 3})), draw.normal(channels),
          draw.normal(channels), draw.normal(channels), draw.positive(channels)};
}

Trial draw_batch_norm(Draw& draw) {
  const BatchNormOptions options = draw_options(draw);
  Shape shape = draw.shape(draw.between(1, 4), 4000);
  shape.back() = std::max<Index>(1, shape.back());
  if (element_count(shape) / shape.back() < 2)
    shape.insert(shape.begin(), options.training ? 2 : 1);
  if (options.training)
    for (Index& size : shape)
      size = std::max<Index>(1, size);
  return {text("batch_norm: ", shape, describe(options)),
          batch_norm_inputs(draw, shape),
          3,
          [=](const Tensors& x) {
            return batch_norm(x[0], x[1], x[2], {x[3], x[4]}, options);
          },
          [=](std::vector<Scalars>& x) {
            plain_batch_norm(x[0], x[1], x[2], x[3], x[4], options);
            return x[0];
          },
          Ladder::fusion};
}

Trial draw_layer_norm(Draw& draw) {
  Shape shape = draw.shape(draw.between(1, 4), 4000);
  shape.back() = std::max<Index>(1, shape.back());
  const Index columns = shape.back();
  const double eps = draw.one_of<double>({1e-5, 0.1});
  return {text("layer_norm: ", shape, ", eps ", eps),
          {draw.normal(shape), draw.normal({columns}), draw.normal({columns})},
          3,
          [=](const Tensors& x) { return layer_norm(x[0], x[1], x[2], eps); },
          [=](std::vector<Scalars>& x) {
            for (std::size_t i = 0; i < x[0].size(); ++i) {
              const std::size_t column = i % static_cast<std::size_t>(columns);
              if (column == 0) plain_normalize(columns, 1, eps, x[0].data() + i);
              x[0][i] = x[0][i] * x[1][column] + x[2][column];
            }
            return x[0];
          }};
}

// ---- fused ----

Trial draw_stem(Draw& draw) {
  BatchNormOptions options = draw_options(draw);
  options.relu = true;  // it always is
  const Pool2dSizes s = draw_pooling(draw, 1);
  const Shape shape = {s.batch + 1, s.height, s.width, s.channels};
  const Pool2dSizes sizes = {s.batch + 1, s.height, s.width,  s.channels,
                             s.kernel,    s.stride, s.padding};
  return {text("batch_norm_max_pool2d: ", shape, ", kernel ", s.kernel, ", stride ", s.stride,
               ", padding ", s.padding, describe(options)),
          batch_norm_inputs(draw, shape),
          3,
          [=](const Tensors& x) {
            return batch_norm_max_pool2d(x[0], x[1], x[2], {x[3], x[4]}, s.kernel, s.stride,
                                         s.padding, options);
          },
          [=](std::vector<Scalars>& x) {
            plain_batch_norm(x[0], x[1], x[2], x[3], x[4], options);
            return plain_max_pool2d(sizes, x[0]);
          },
          Ladder::fusion};
}

// u = batch norm(x), v = channel attention(u), relu(spatial attention(v) + residual)
Scalars plain_cbam(const CbamSizes& s, Scalars& u, const Scalars& residual, const Scalars& w1,
                   const Scalars& w2, const Scalars& w7) {
  const auto linear = [&](Index in, Index out, const Scalars& x, const Scalars& weight) {
    return plain_conv2d({s.batch, 1, 1, in, 1, 1, out}, x, weight);
  };
  Scalars channel_weight;
  for (const bool average : {true, false}) {
    Scalars hidden = linear(s.channels, s.hidden,
                            plain_global_pool(s.batch, s.pixels(), s.channels, u, average), w1);
    for (Scalar& element : hidden)
      element = relu(element);
    const Scalars out = linear(s.hidden, s.channels, hidden, w2);
    channel_weight.resize(out.size(), 0);
    for (std::size_t i = 0; i < out.size(); ++i)
      channel_weight[i] = channel_weight[i] + out[i];
  }
  const std::size_t channels = static_cast<std::size_t>(s.channels);
  const std::size_t image = static_cast<std::size_t>(s.pixels()) * channels;
  for (std::size_t i = 0; i < u.size(); ++i)
    u[i] = u[i] * sigmoid(channel_weight[i / image * channels + i % channels]);
  Scalars maps;
  for (std::size_t pixel = 0; pixel < u.size(); pixel += channels) {
    Scalar sum = u[pixel], largest = u[pixel];
    for (std::size_t c = 1; c < channels; ++c) {
      sum = sum + u[pixel + c];
      largest = max(largest, u[pixel + c]);
    }
    maps.insert(maps.end(), {sum / static_cast<double>(s.channels), largest});
  }
  const Scalars pixel_weight =
      plain_conv2d({s.batch, s.height, s.width, 2, 7, 7, 1, 1, 3}, maps, w7);
  for (std::size_t i = 0; i < u.size(); ++i)
    u[i] = relu(u[i] * sigmoid(pixel_weight[i / channels]) + residual[i]);
  return u;
}

Trial draw_cbam(Draw& draw) {
  BatchNormOptions options = draw_options(draw);
  options.relu = false;  // the one after the residual is CBAM's own
  CbamSizes s{};
  do {
    s = {draw.size(4, 1), draw.size(17, 1), draw.size(17, 1), draw.size(70, 1), draw.size(9, 1)};
  } while (s.batch * s.pixels() * s.channels > 3000 || s.batch * s.pixels() < 2);
  const Shape shape = {s.batch, s.height, s.width, s.channels};
  const Tensors norm = batch_norm_inputs(draw, shape);
  return {
      text("batch_norm_cbam: ", shape, ", hidden ", s.hidden, describe(options)),
      {norm[0], draw.normal(shape), norm[1], norm[2], draw.normal({1, 1, s.channels, s.hidden}),
       draw.normal({1, 1, s.hidden, s.channels}), draw.normal({7, 7, 2, 1}), norm[3], norm[4]},
      7,
      [=](const Tensors& x) {
        return batch_norm_cbam(x[0], x[1], {x[2], x[3], x[4], x[5], x[6]}, {x[7], x[8]}, options);
      },
      [=](std::vector<Scalars>& x) {
        plain_batch_norm(x[0], x[2], x[3], x[7], x[8], options);
        return plain_cbam(s, x[0], x[1], x[4], x[5], x[6]);
      },
      Ladder::fusion};
}

// ---- dropout ----

Trial draw_dropout(Draw& draw) {
  const Shape shape = draw.shape(draw.below(4), 3000);
  const double p = draw.one_of<double>({0, 0.1, 0.5, 0.9});
  const Generator stream{static_cast<std::uint64_t>(draw.below(1 << 30)),
                         static_cast<std::uint64_t>(draw.below(1 << 30))};
  return {text("dropout: ", shape, ", p ", p),
          {draw.normal(shape)},
          1,
          [=](const Tensors& x) {
            Generator generator = stream;
            return dropout(x[0], p, generator);
          },
          [=](std::vector<Scalars>& x) {
            Generator generator = stream;
            for (Scalar& element : x[0])
              element = element * (generator.uniform() < p ? 0.0 : 1 / (1 - p));
            return x[0];
          }};
}

// ---- all of them ----

struct Family {
  std::vector<std::string> operations;
  Trial (*draw)(Draw&);
  int weight;  // how often it is drawn
};

const std::vector<Family>& families() {
  static const std::vector<Family> all = {
      {{"add", "subtract", "multiply", "divide", "operator+(Tensor, Tensor)",
        "operator-(Tensor, Tensor)", "operator*(Tensor, Tensor)", "operator/(Tensor, Tensor)"},
       draw_arithmetic,
       6},
      {{"operator+(Tensor, double)", "operator-(Tensor, double)", "operator*(Tensor, double)",
        "operator/(Tensor, double)", "operator+(double, Tensor)", "operator-(double, Tensor)",
        "operator*(double, Tensor)", "operator/(double, Tensor)", "operator-(Tensor)"},
       draw_scalar_arithmetic,
       2},
      {{"exp", "log", "sqrt", "relu", "sigmoid", "tanh"}, draw_function, 3},
      {{"sum", "mean", "max"}, draw_reduction, 6},
      {{"argmax"}, draw_argmax, 1},
      {{"reshape"}, draw_reshape, 1},
      {{"permute", "transpose"}, draw_permute, 2},
      {{"concatenate"}, draw_concatenate, 2},
      {{"slice"}, draw_slice, 2},
      {{"matmul"}, draw_matmul, 6},
      {{"scaled_dot_product_attention"}, draw_attention, 3},
      {{"softmax", "log_softmax"}, draw_softmax, 4},
      {{"cross_entropy"}, draw_cross_entropy, 2},
      {{"conv2d"}, draw_conv2d, 32},
      {{"max_pool2d"}, draw_max_pool2d, 4},
      {{"global_average_pool", "global_max_pool"}, draw_global_pool, 2},
      {{"batch_norm"}, draw_batch_norm, 6},
      {{"layer_norm"}, draw_layer_norm, 3},
      {{"batch_norm_max_pool2d"}, draw_stem, 6},
      {{"batch_norm_cbam"}, draw_cbam, 6},
      {{"dropout"}, draw_dropout, 1}};
  return all;
}

}  // namespace

Trial draw_trial(std::uint64_t seed) {
  Draw draw(seed);
  Index total = 0;
  for (const Family& family : families())
    total += family.weight;
  Index lot = draw.below(total);
  std::size_t chosen = 0;
  while (lot >= families()[chosen].weight)
    lot -= families()[chosen++].weight;
  return families()[chosen].draw(draw);
}

std::vector<std::string> drawn_operations() {
  std::vector<std::string> names;
  for (const Family& family : families())
    names.insert(names.end(), family.operations.begin(), family.operations.end());
  return names;
}

}  // namespace chalk::testing
