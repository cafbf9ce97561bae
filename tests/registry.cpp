#include "tests/registry.h"

#include <cmath>

#include "autograd/backend.h"
#include "autograd/operations.h"

namespace chalk::testing {

namespace {

Tensor zeros(const Shape& shape) {
  return Tensor::zeros(shape, DType::float64);
}

Tensor integers(const Shape& shape) {
  return Tensor::zeros(shape, DType::int64);
}

Tensor labels(const std::vector<std::int64_t>& values) {
  return Tensor::from(values, {static_cast<Index>(values.size())});
}

// The same call for several cases, which differ in their inputs only.
std::vector<Case> cases(const std::vector<std::string>& names,
                        const std::function<Tensor(const Tensors&)>& function) {
  std::vector<Case> result;
  for (const std::string& name : names)
    result.push_back({name, function});
  return result;
}

using BinaryFunction = Tensor (*)(const Tensor&, const Tensor&);
using UnaryFunction = Tensor (*)(const Tensor&);

std::vector<ShapeError> broadcast_errors(const std::string& word, BinaryFunction f) {
  return {{[f] {
             f(zeros({2, 3}), zeros({2}));
           },
           {word, "[2, 3]", "[2]", "broadcast"}},
          {[f] { f(zeros({0}), zeros({2})); }, {word, "[0]", "[2]", "broadcast"}},
          {[f] { f(zeros({2}), Tensor::zeros({2})); }, {word, "float64", "float32", "to()"}},
          {[f] { f(integers({2}), integers({2})); }, {word, "int64"}}};
}

Operation arithmetic(const std::string& word, BinaryFunction f) {
  return {word,
          cases({"same", "row", "column", "both", "scalar", "one", "empty"},
                [f](const Tensors& x) { return f(x[0], x[1]); }),
          broadcast_errors(word, f)};
}

// The three forms of one sign.
std::vector<Operation> operators(char sign, const std::string& word, BinaryFunction f,
                                 Tensor (*tensor_double)(const Tensor&, double),
                                 Tensor (*double_tensor)(double, const Tensor&)) {
  const std::string name = std::string("operator") + sign;
  const std::vector<std::string> scalar_cases = {"matrix", "one", "empty"};
  return {{name + "(Tensor, Tensor)",
           cases({"row", "one", "empty"}, [f](const Tensors& x) { return f(x[0], x[1]); }),
           broadcast_errors(word, f)},
          {name + "(Tensor, double)",
           cases(scalar_cases, [=](const Tensors& x) { return tensor_double(x[0], 2.5); }),
           {{[=] { tensor_double(integers({2}), 1); }, {word, "int64"}}}},
          {name + "(double, Tensor)",
           cases(scalar_cases, [=](const Tensors& x) { return double_tensor(-1.5, x[0]); }),
           {{[=] { double_tensor(1, integers({2})); }, {word, "int64"}}}}};
}

Operation of_one_variable(const std::string& name, const std::string& word, UnaryFunction f) {
  return {name,
          cases({"matrix", "long", "scalar", "one", "empty"},
                [f](const Tensors& x) { return f(x[0]); }),
          {{[f] {
              f(integers({2, 3}));
            },
            {word, "int64"}}}};
}

Operation reduction(const std::string& name,
                    Tensor (*f)(const Tensor&, const std::vector<Index>&, bool)) {
  return {name,
          {{"all", [f](const Tensors& x) { return f(x[0], {}, false); }},
           {"axis", [f](const Tensors& x) { return f(x[0], {1}, false); }},
           {"last", [f](const Tensors& x) { return f(x[0], {-1}, true); }},
           {"apart",
            [f](const Tensors& x) {
              return f(x[0], {2, 0}, false);
            }},
           {"pixels",
            [f](const Tensors& x) {
              return f(x[0], {1, 2}, true);
            }},
           {"scalar", [f](const Tensors& x) { return f(x[0], {}, false); }},
           {"one",
            [f](const Tensors& x) {
              return f(x[0], {0, 1}, false);
            }},
           {"empty", [f](const Tensors& x) { return f(x[0], {1}, false); }}},
          {{[f] {
              f(zeros({2, 3}), {2}, false);
            },
            {"axis 2", "[2, 3]", "-2 to 1"}},
           {[f] {
              f(zeros({2, 3}), {-3}, false);
            },
            {"axis -3", "[2, 3]"}},
           {[f] {
              f(zeros({2, 3}), {1, -1}, false);
            },
            {"twice"}},
           {[f] { f(zeros({}), {0}, false); }, {"axis 0", "[]"}}}};
}

Operation softmax_like(const std::string& name, Tensor (*f)(const Tensor&, Index)) {
  return {name,
          {{"rows", [f](const Tensors& x) { return f(x[0], -1); }},
           {"first", [f](const Tensors& x) { return f(x[0], 0); }},
           {"middle", [f](const Tensors& x) { return f(x[0], 1); }},
           {"large", [f](const Tensors& x) { return f(x[0], -1); }},
           {"column", [f](const Tensors& x) { return f(x[0], -1); }},
           {"one", [f](const Tensors& x) { return f(x[0], -1); }},
           {"empty", [f](const Tensors& x) { return f(x[0], -1); }}},
          {{[f] {
              f(zeros({2, 3}), 2);
            },
            {name, "axis 2", "[2, 3]"}},
           {[f] { f(zeros({}), -1); }, {name, "axis -1", "[]"}}}};
}

// ---- the families, in the order of operations.h ----

std::vector<Operation> elementwise() {
  std::vector<Operation> all = {arithmetic("add", add), arithmetic("subtract", subtract),
                                arithmetic("multiply", multiply), arithmetic("divide", divide)};
  all[2].cases.push_back({"square", [](const Tensors& x) { return multiply(x[0], x[0]); }});
  for (const std::vector<Operation>& forms :
       {operators('+', "add", operator+, operator+, operator+),
        operators('-', "subtract", operator-, operator-, operator-),
        operators('*', "multiply", operator*, operator*, operator*),
        operators('/', "divide", operator/, operator/, operator/)})
    all.insert(all.end(), forms.begin(), forms.end());
  all.push_back(of_one_variable("operator-(Tensor)", "multiply", operator-));
  all.push_back(of_one_variable("exp", "exp", exp));
  all.push_back(of_one_variable("log", "log", log));
  all.push_back(of_one_variable("sqrt", "sqrt", sqrt));
  all.push_back(of_one_variable("relu", "relu", relu));
  all.push_back(of_one_variable("sigmoid", "sigmoid", sigmoid));
  all.push_back(of_one_variable("tanh", "tanh", tanh));
  return all;
}

std::vector<Operation> reductions() {
  Operation total = reduction("sum", sum), largest = reduction("max", max);
  total.cases.push_back({"of_nothing", [](const Tensors& x) { return sum(x[0], {0}); }});
  largest.errors.push_back({[] { max(zeros({3, 0}), {1}); }, {"max", "no elements", "[3, 0]"}});
  return {total,
          reduction("mean", mean),
          largest,
          {.name = "argmax",
           .cases = {{"default", [](const Tensors& x) { return argmax(x[0]); }},
                     {"first", [](const Tensors& x) { return argmax(x[0], 0, true); }},
                     {"middle", [](const Tensors& x) { return argmax(x[0], -2); }},
                     {"one", [](const Tensors& x) { return argmax(x[0], 0); }},
                     {"empty", [](const Tensors& x) { return argmax(x[0], 1); }}},
           .errors = {{[] {
                         argmax(zeros({2, 3}), 2);
                       },
                       {"argmax", "axis 2", "[2, 3]"}},
                      {[] {
                         argmax(zeros({2, 0}), 1);
                       },
                       {"max", "no elements", "[2, 0]"}},
                      {[] { argmax(zeros({})); }, {"argmax", "[]"}}},
           .differentiable = false}};
}

Operation reshape_entry() {
  return {"reshape",
          {{"matrix",
            [](const Tensors& x) {
              return reshape(x[0], {5, 6});
            }},
           {"open",
            [](const Tensors& x) {
              return reshape(x[0], {3, -1});
            }},
           {"scalar", [](const Tensors& x) { return reshape(x[0], {}); }},
           {"empty",
            [](const Tensors& x) {
              return reshape(x[0], {2, 0});
            }}},
          {{[] {
              reshape(zeros({2, 3}), {4});
            },
            {"reshape", "[2, 3]", "6", "[4]"}},
           {[] {
              reshape(zeros({2, 3}), {4, -1});
            },
            {"reshape", "[2, 3]", "6"}},
           {[] {
              reshape(zeros({2, 3}), {-1, -1});
            },
            {"reshape", "only one", "[-1, -1]"}},
           {[] {
              reshape(zeros({2, 3}), {-2, -3});
            },
            {"reshape", "[-2, -3]"}},
           {[] {
              reshape(zeros({0, 3}), {0, -1});
            },
            {"reshape", "[0, 3]"}}}};
}

Operation permute_entry() {
  return {"permute",
          {{"to_channels_first",
            [](const Tensors& x) {
              return permute(x[0], {0, 3, 1, 2});
            }},
           {"mixed",
            [](const Tensors& x) {
              return permute(x[0], {3, 1, 0, 2});
            }},
           {"negative",
            [](const Tensors& x) {
              return permute(x[0], {-1, 0, -2});
            }},
           {"one",
            [](const Tensors& x) {
              return permute(x[0], {1, 0});
            }},
           {"scalar", [](const Tensors& x) { return permute(x[0], {}); }},
           {"empty",
            [](const Tensors& x) {
              return permute(x[0], {2, 0, 1});
            }}},
          {{[] {
              permute(zeros({2, 3}), {0});
            },
            {"permute", "1 axes", "[2, 3]"}},
           {[] {
              permute(zeros({2, 3}), {0, -2});
            },
            {"permute", "axis -2", "twice"}},
           {[] {
              permute(zeros({2, 3}), {0, 2});
            },
            {"permute", "axis 2", "[2, 3]"}}}};
}

Operation transpose_entry() {
  return {"transpose",
          {{"default", [](const Tensors& x) { return transpose(x[0]); }},
           {"outer", [](const Tensors& x) { return transpose(x[0], 0, 2); }},
           {"one", [](const Tensors& x) { return transpose(x[0]); }},
           {"empty", [](const Tensors& x) { return transpose(x[0]); }}},
          {{[] { transpose(zeros({3})); }, {"transpose", "axis -2", "[3]"}},
           {[] {
              transpose(zeros({2, 3}), 0, 2);
            },
            {"transpose", "axis 2", "[2, 3]"}}}};
}

Operation concatenate_entry() {
  return {"concatenate",
          {{"middle", [](const Tensors& x) { return concatenate(x, 1); }},
           {"last", [](const Tensors& x) { return concatenate(x, -1); }},
           {"alone", [](const Tensors& x) { return concatenate(x, 0); }},
           {"twice",
            [](const Tensors& x) {
              return concatenate({x[0], x[0]}, 0);
            }},
           {"empty", [](const Tensors& x) { return concatenate(x, 1); }}},
          {{[] { concatenate({}, 0); }, {"concatenate", "no tensors"}},
           {[] {
              concatenate({zeros({2, 3}), zeros({3, 3})}, 1);
            },
            {"concatenate", "[2, 3]", "[3, 3]"}},
           {[] {
              concatenate({zeros({2, 3}), zeros({2})}, 0);
            },
            {"concatenate", "[2, 3]", "[2]"}},
           {[] { concatenate({zeros({2})}, 1); }, {"concatenate", "axis 1", "[2]"}}}};
}

Operation slice_entry() {
  return {"slice",
          {{"middle", [](const Tensors& x) { return slice(x[0], 1, 1, 4); }},
           {"last", [](const Tensors& x) { return slice(x[0], -1, 2, 7); }},
           {"whole", [](const Tensors& x) { return slice(x[0], 0, 0, 1); }},
           {"empty", [](const Tensors& x) { return slice(x[0], 1, 2, 2); }}},
          {{[] {
              slice(zeros({2, 3}), 2, 0, 1);
            },
            {"slice", "axis 2", "[2, 3]"}},
           {[] {
              slice(zeros({2, 3}), 1, 1, 4);
            },
            {"slice", "[1, 4)", "axis 1", "[2, 3]"}},
           {[] {
              slice(zeros({2, 3}), 1, 2, 1);
            },
            {"slice", "[2, 1)", "[2, 3]"}},
           {[] {
              slice(zeros({2, 3}), 1, -1, 2);
            },
            {"slice", "[-1, 2)", "[2, 3]"}}}};
}

std::vector<Operation> products() {
  return {{"matmul",
           cases({"matrices", "batch", "one_right", "one_left", "dot", "one", "wide", "empty",
                  "nothing_inside", "empty_batch", "empty_batch_right"},
                 [](const Tensors& x) { return matmul(x[0], x[1]); }),
           {{[] {
               matmul(zeros({2, 3}), zeros({2, 3}));
             },
             {"matmul", "[2, 3]"}},
            {[] {
               matmul(zeros({3}), zeros({3, 2}));
             },
             {"matmul", "[3]", "[3, 2]"}},
            {[] {
               matmul(zeros({2, 3, 4}), zeros({3, 4, 5}));
             },
             {"matmul", "[2, 3, 4]", "[3, 4, 5]"}},
            {[] {
               matmul(zeros({1, 3, 4}), zeros({2, 4, 5}));
             },
             {"matmul", "equal or missing"}}}},
          {"scaled_dot_product_attention",
           cases({"plain", "heads", "one", "empty"},
                 [](const Tensors& x) { return scaled_dot_product_attention(x[0], x[1], x[2]); }),
           {{[] {
               scaled_dot_product_attention(zeros({5, 3}), zeros({5, 4}), zeros({5, 4}));
             },
             {"scaled_dot_product_attention", "matmul", "[5, 3]", "[4, 5]"}},
            {[] {
               scaled_dot_product_attention(zeros({5, 3}), zeros({7, 3}), zeros({5, 4}));
             },
             {"scaled_dot_product_attention", "matmul", "[5, 7]", "[5, 4]"}}}}};
}

std::vector<Operation> softmaxes() {
  return {softmax_like("softmax", softmax),
          softmax_like("log_softmax", log_softmax),
          {.name = "cross_entropy",
           .cases = cases({"batch", "large", "one", "one_class"},
                          [](const Tensors& x) { return cross_entropy(x[0], x[1]); }),
           .errors = {{[] {
                         cross_entropy(zeros({2, 3}), labels({0}));
                       },
                       {"cross_entropy", "[2, 3]", "[1]", "[batch, classes]"}},
                      {[] { cross_entropy(zeros({3}), labels({0})); }, {"cross_entropy", "[3]"}},
                      {[] {
                         cross_entropy(zeros({1, 3}), zeros({1}));
                       },
                       {"float64", "int64"}},
                      {[] {
                         cross_entropy(zeros({1, 3}), labels({3}));
                       },
                       {"label 3", "0 .. 2"}},
                      {[] {
                         cross_entropy(zeros({1, 3}), labels({-1}));
                       },
                       {"label -1"}},
                      {[] {
                         cross_entropy(zeros({0, 3}), labels({}));
                       },
                       {"the batch is empty"}}},
           .empty_is_error = true}};
}

Operation conv2d_entry() {
  const auto with = [](const std::string& name, const Conv2dOptions& options) {
    return Case{name, [options](const Tensors& x) {
                  return conv2d(x[0], x[1], x.size() == 3 ? x[2] : Tensor(), options);
                }};
  };
  const auto fails = [](const Shape& input, const Shape& weight, const Conv2dOptions& options,
                        const std::vector<std::string>& words) {
    return ShapeError{[=] { conv2d(zeros(input), zeros(weight), {}, options); }, words};
  };
  return {.name = "conv2d",
          .cases = {with("plain", {}), with("padded", {.padding = 1}),
                    with("strided", {.stride = 2, .padding = 1}),
                    with("stem", {.stride = 2, .padding = 3}), with("spatial", {.padding = 3}),
                    with("pointwise", {}), with("shortcut", {.stride = 2}),
                    with("leaves_rest", {.stride = 3, .padding = 2}),
                    with("groups", {.padding = 1, .groups = 2}),
                    with("depthwise", {.stride = 4, .padding = 1, .groups = 5}),
                    with("multiplier", {.stride = 2, .groups = 3}),
                    with("wide_padding", {.padding = 3}), with("one", {}),
                    with("empty", {.padding = 1})},
          .errors = {fails({1, 8, 8, 64}, {7, 7, 2, 1}, {},
                           {"conv2d: input has 64 channels, weight expects 2", "[1, 8, 8, 64]",
                            "[7, 7, 2, 1]"}),
                     fails({8, 8, 3}, {3, 3, 3, 4}, {}, {"conv2d", "[8, 8, 3]", "[batch, height"}),
                     fails({1, 8, 8, 3}, {3, 3, 4}, {}, {"conv2d", "[3, 3, 4]", "kernel height"}),
                     fails({1, 2, 8, 3}, {3, 3, 3, 4}, {}, {"conv2d", "fit", "[1, 2, 8, 3]"}),
                     fails({1, 8, 8, 3}, {0, 3, 3, 4}, {}, {"conv2d", "fit", "[0, 3, 3, 4]"}),
                     fails({1, 8, 8, 4}, {3, 3, 2, 5}, {.groups = 2}, {"conv2d", "5", "2 groups"}),
                     fails({1, 8, 8, 3}, {3, 3, 3, 4}, {.stride = 0}, {"conv2d", "stride 0"}),
                     fails({1, 8, 8, 3}, {3, 3, 3, 4}, {.padding = -1}, {"conv2d", "padding -1"}),
                     fails({1, 8, 8, 3}, {3, 3, 3, 4}, {.groups = 0}, {"conv2d", "groups 0"}),
                     {[] {
                        conv2d(zeros({1, 3, 3, 1}), zeros({1, 1, 1, 2}), zeros({3}));
                      },
                      {"conv2d", "bias", "[3]", "[2]"}},
                     {[] {
                        conv2d(zeros({1, 3, 3, 1}), Tensor::zeros({1, 1, 1, 2}));
                      },
                      {"conv2d", "float64", "float32"}}}};
}

std::vector<Operation> pools() {
  const auto window = [](const std::string& name, Index kernel, Index stride, Index padding) {
    return Case{name, [=](const Tensors& x) { return max_pool2d(x[0], kernel, stride, padding); }};
  };
  const std::vector<std::string> names = {"plain", "pixel", "one", "empty"};
  return {{"max_pool2d",
           {window("stem", 3, 2, 1), window("halves", 2, 2, 0), window("overlaps", 3, 1, 1),
            window("large", 5, 3, 2), window("leaves_rest", 2, 3, 0), window("one", 1, 1, 0),
            window("empty", 3, 2, 0)},
           {{[] {
               max_pool2d(zeros({5, 5, 1}), 2, 2);
             },
             {"max_pool2d", "[5, 5, 1]", "[batch, height"}},
            {[] {
               max_pool2d(zeros({1, 2, 5, 1}), 3, 2);
             },
             {"max_pool2d", "fit", "[1, 2, 5, 1]"}},
            {[] {
               max_pool2d(zeros({1, 5, 5, 1}), 3, 2, 2);
             },
             {"max_pool2d", "padding 2", "half"}},
            {[] {
               max_pool2d(zeros({1, 5, 5, 1}), 0, 1);
             },
             {"max_pool2d", "kernel 0"}},
            {[] {
               max_pool2d(zeros({1, 50, 50, 1}), 16, 1);
             },
             {"max_pool2d", "kernel 16", "15"}},
            {[] {
               max_pool2d(zeros({1, 5, 5, 1}), 2, 0);
             },
             {"max_pool2d", "stride 0"}},
            {[] {
               max_pool2d(zeros({1, 0, 5, 1}), 2, 1, 1);
             },
             {"max_pool2d", "[1, 0, 5, 1]"}}}},
          {"global_average_pool",
           cases(names, [](const Tensors& x) { return global_average_pool(x[0]); }),
           {{[] {
               global_average_pool(zeros({2, 3, 4}));
             },
             {"global_average_pool", "[2, 3, 4]"}}}},
          {"global_max_pool",
           cases(names, [](const Tensors& x) { return global_max_pool(x[0]); }),
           {{[] {
               global_max_pool(zeros({2, 3, 4}));
             },
             {"global_max_pool", "[2, 3, 4]"}},
            {[] {
               global_max_pool(zeros({1, 0, 4, 2}));
             },
             {"max", "no elements", "[1, 0, 4, 2]"}}}}};
}

std::vector<Operation> norms() {
  const auto batch = [](const std::string& name, const BatchNormOptions& options) {
    return Case{name, [options](const Tensors& x) {
                  return batch_norm(x[0], x[1], x[2], {x[3], x[4]}, options);
                }};
  };
  const auto batch_fails = [](const Shape& x, const Shape& gamma, const Shape& variance,
                              const std::vector<std::string>& words) {
    return ShapeError{
        [=] {
          batch_norm(zeros(x), zeros(gamma), zeros({3}), {zeros({3}), zeros(variance)});
        },
        words};
  };
  return {
      {"batch_norm",
       {batch("rows", {}), batch("images", {}), batch("options", {.momentum = 0.3, .eps = 0.01}),
        batch("one", {}), batch("relu", {.relu = true}), batch("evaluation", {.training = false}),
        batch("evaluation_relu", {.training = false, .relu = true}),
        batch("evaluation_one", {.training = false}), batch("empty", {.training = false})},
       {batch_fails({5, 3}, {4}, {3}, {"batch_norm", "3 channels", "[4]", "[5, 3]"}),
        batch_fails({5, 3}, {3}, {1, 3}, {"batch_norm", "3 channels", "[1, 3]", "[5, 3]"}),
        batch_fails({1, 3}, {3}, {3}, {"batch_norm", "more than one value", "[1, 3]"}),
        batch_fails({}, {3}, {3}, {"batch_norm", "axis"})}},
      {"layer_norm",
       {{"rows", [](const Tensors& x) { return layer_norm(x[0], x[1], x[2]); }},
        {"tokens", [](const Tensors& x) { return layer_norm(x[0], x[1], x[2], 1e-3); }},
        {"one", [](const Tensors& x) { return layer_norm(x[0], x[1], x[2]); }},
        {"one_column", [](const Tensors& x) { return layer_norm(x[0], x[1], x[2], 0.1); }},
        {"empty", [](const Tensors& x) { return layer_norm(x[0], x[1], x[2]); }}},
       {{[] {
           layer_norm(zeros({5, 3}), zeros({5}), zeros({3}));
         },
         {"layer_norm", "3 channels", "[5]", "[5, 3]"}},
        {[] {
           layer_norm(zeros({5, 3}), zeros({3}), Tensor::zeros({3}));
         },
         {"layer_norm", "float64", "float32"}},
        {[] {
           layer_norm(zeros({5, 0}), zeros({0}), zeros({0}));
         },
         {"layer_norm", "empty", "[5, 0]"}},
        {[] { layer_norm(zeros({}), zeros({1}), zeros({1})); }, {"layer_norm", "axis"}}}}};
}

Operation stem_entry() {
  const auto with = [](const std::string& name, Index kernel, Index stride, Index padding,
                       const BatchNormOptions& options) {
    return Case{name, [=](const Tensors& x) {
                  return batch_norm_max_pool2d(x[0], x[1], x[2], {x[3], x[4]}, kernel, stride,
                                               padding, options);
                }};
  };
  const auto fails = [](const Shape& x, const Shape& gamma, const Shape& variance, Index kernel,
                        const std::vector<std::string>& words) {
    return ShapeError{[=] {
                        batch_norm_max_pool2d(zeros(x), zeros(gamma), zeros({3}),
                                              {zeros({3}), zeros(variance)}, kernel, 2, 0);
                      },
                      words};
  };
  const std::string name = "batch_norm_max_pool2d";
  return {name,
          {with("training", 3, 2, 1, {}), with("options", 2, 2, 0, {.momentum = 0.3, .eps = 0.01}),
           with("one", 1, 1, 0, {}), with("evaluation", 3, 2, 1, {.training = false}),
           with("empty", 3, 2, 0, {.training = false})},
          {fails({5, 5, 3}, {3}, {3}, 2, {name, "[5, 5, 3]", "[batch, height"}),
           fails({1, 5, 5, 3}, {4}, {3}, 2, {name, "3 channels", "[4]"}),
           fails({1, 5, 5, 3}, {3}, {1}, 2, {name, "3 channels", "[1]"}),
           fails({1, 5, 5, 3}, {3}, {3}, 6, {name, "fit", "[1, 5, 5, 3]"}),
           fails({0, 5, 5, 3}, {3}, {3}, 2, {"more than one value", "[0, 5, 5, 3]"})}};
}

Operation cbam_entry() {
  const auto call = [](const Tensors& x, const BatchNormOptions& options) {
    return batch_norm_cbam(x[0], x[1], {x[2], x[3], x[4], x[5], x[6]}, {x[7], x[8]}, options);
  };
  const auto with = [call](const std::string& name, const BatchNormOptions& options) {
    return Case{name, [=](const Tensors& x) { return call(x, options); }};
  };
  // Each call is wrong in the shape of one tensor.
  const auto fails = [call](std::size_t wrong, const Shape& shape,
                            const std::vector<std::string>& words) {
    std::vector<Shape> shapes = {{1, 2, 3, 4}, {1, 2, 3, 4}, {4}, {4}, {1, 1, 4, 2},
                                 {1, 1, 2, 4}, {7, 7, 2, 1}, {4}, {4}};
    shapes[wrong] = shape;
    if (element_count(shape) == 0) shapes[1] = shape;
    Tensors x;
    for (const Shape& each : shapes)
      x.push_back(zeros(each));
    return ShapeError{[=] { call(x, {.training = false}); }, words};
  };
  return {.name = "batch_norm_cbam",
          .cases = {with("training", {}), with("options", {.momentum = 0.3, .eps = 0.01}),
                    with("one", {}), with("evaluation", {.training = false})},
          .errors = {fails(0, {1, 2, 3, 5}, {"batch_norm_cbam", "[1, 2, 3, 5]", "[1, 2, 3, 4]"}),
                     fails(0, {0, 2, 3, 4}, {"batch_norm_cbam", "empty", "[0, 2, 3, 4]"}),
                     fails(1, {1, 2, 2, 4}, {"batch_norm_cbam", "residual [1, 2, 2, 4]"}),
                     fails(2, {3}, {"batch_norm_cbam", "gamma [3]"}),
                     fails(4, {1, 1, 5, 2}, {"batch_norm_cbam", "4 channels", "[1, 1, 5, 2]"}),
                     fails(5, {1, 1, 3, 4}, {"batch_norm_cbam", "w2 [1, 1, 3, 4]"}),
                     fails(6, {3, 3, 2, 1}, {"batch_norm_cbam", "w7 [3, 3, 2, 1]"}),
                     fails(7, {2}, {"batch_norm_cbam", "[2]"}),
                     fails(8, {5}, {"batch_norm_cbam", "[5]"})},
          .empty_is_error = true};
}

// A stream of its own in every call makes it a function of x.
Operation dropout_entry() {
  const auto stream = [](const std::string& name, double p, std::uint64_t seed) {
    return Case{name, [=](const Tensors& x) {
                  Generator generator{seed, 0};
                  return dropout(x[0], p, generator);
                }};
  };
  return {"dropout",
          {stream("matrix", 0.3, 7), stream("half", 0.5, (std::uint64_t{1} << 40) + 3),
           stream("nothing", 0, 1), stream("one", 0.5, 2), stream("empty", 0.5, 1)},
          {{[] { dropout(zeros({2}), 1); }, {"dropout", "p is 1"}},
           {[] { dropout(zeros({2}), -0.5); }, {"dropout", "p is -0.5"}},
           {[] { dropout(zeros({2}), std::nan("")); }, {"dropout", "p is nan"}}}};
}

}  // namespace

const std::vector<Operation>& registry() {
  static const std::vector<Operation> all = [] {
    std::vector<Operation> list;
    std::vector<Operation> movements = {reshape_entry(), permute_entry(), transpose_entry(),
                                        concatenate_entry(), slice_entry()};
    for (Operation& movement : movements)
      movement.any_type = true;
    for (const std::vector<Operation>& family :
         {elementwise(), reductions(), movements, products(), softmaxes(),
          std::vector<Operation>{conv2d_entry()}, pools(), norms(),
          std::vector<Operation>{stem_entry(), cbam_entry()},
          std::vector<Operation>{dropout_entry()}})
      list.insert(list.end(), family.begin(), family.end());
    return list;
  }();
  return all;
}

}  // namespace chalk::testing
