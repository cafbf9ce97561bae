#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>

#include "autograd/check.h"
#include "autograd/node.h"
#include "autograd/operations.h"

namespace chalk {

// "[0, 2, 1]": the index of element `i` in row-major order.
static std::string index_text(const Shape& shape, Index i) {
  Shape index(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0; i /= shape[axis])
    index[axis] = i % shape[axis];
  return to_string(index);
}

namespace {

// One check in progress: F(inputs) = sum_i c_i f_i(inputs), a scalar.
struct Check {
  const std::string& name;
  const DifferentiableFunction& function;
  std::vector<Tensor> inputs;  // private copies, leaves
  const GradcheckOptions& options;
  Tensor c;
  GradcheckResult result = {};

  double value() {
    NoGrad no_grad;
    return sum(function(inputs) * c).item();
  }

  void compare(double analytic, double numeric, const std::string& where) {
    const double size = std::max({1.0, std::abs(analytic), std::abs(numeric)});
    double error = std::abs(analytic - numeric) / size;
    if (std::isnan(error)) error = INFINITY;
    if (error < result.worst_error) return;
    result.worst_error = error;
    result.passed = error <= options.tolerance;
    std::ostringstream text;
    text.precision(10);
    text << name << ": " << where << ": backward gives " << analytic << ", the difference quotient "
         << numeric << ", relative error " << error;
    result.message = text.str();
  }

  void every_element() {
    for (std::size_t input = 0; input < inputs.size(); ++input)
      if (inputs[input].requires_grad()) every_element_of(input);
  }

  // Moves x by +h and -h, and compares the slope of F with the gradient at that element.
  void every_element_of(std::size_t input) {
    const std::vector<double> gradient = gradient_of(input);
    for (Index i = 0; i < inputs[input].numel(); ++i) {
      const double before = inputs[input].data<double>()[i];
      const auto value_at = [&](double x) {
        inputs[input].mutable_data<double>()[i] = x;
        return value();
      };
      const double above = value_at(before + options.step);
      const double below = value_at(before - options.step);
      inputs[input].mutable_data<double>()[i] = before;
      compare(gradient[static_cast<std::size_t>(i)], (above - below) / (2 * options.step),
              "input " + std::to_string(input) + " at " + index_text(inputs[input].shape(), i));
    }
  }

  // Moves all inputs along a random direction v: the slope of F is the gradient's product with v.
  void one_projection(int number, Generator& generator) {
    double analytic = 0;
    std::vector<Tensor> before, direction;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      before.push_back(inputs[k].clone());
      direction.push_back(Tensor::randn(inputs[k].shape(), generator, DType::float64));
      if (!inputs[k].requires_grad()) direction[k] = direction[k] * 0.0;
      const std::vector<double> gradient = gradient_of(k), v = direction[k].to_vector<double>();
      for (std::size_t i = 0; i < v.size(); ++i)
        analytic += gradient[i] * v[i];
    }
    const auto value_at = [&](double h) {
      for (std::size_t k = 0; k < inputs.size(); ++k)
        if (inputs[k].requires_grad()) inputs[k].copy_from(before[k] + direction[k] * h);
      return value();
    };
    const double numeric = (value_at(options.step) - value_at(-options.step)) / (2 * options.step);
    for (std::size_t k = 0; k < inputs.size(); ++k)
      inputs[k].copy_from(before[k]);
    compare(analytic, numeric, "random direction " + std::to_string(number));
  }

  // Zeros where the function does not depend on the input.
  std::vector<double> gradient_of(std::size_t input) {
    const Tensor gradient = inputs[input].grad();
    if (!gradient.defined())
      return std::vector<double>(static_cast<std::size_t>(inputs[input].numel()), 0.0);
    return gradient.to_vector<double>();
  }
};

}  // namespace

GradcheckResult gradcheck(const std::string& name, const DifferentiableFunction& function,
                          const std::vector<Tensor>& inputs, const GradcheckOptions& options) {
  check(function != nullptr && !inputs.empty(), "gradcheck of ", name,
        ": needs a function and at least one input");
  check(options.step > 0 && std::isfinite(options.step) && options.tolerance >= 0 &&
            options.projections >= 0,
        "gradcheck of ", name, ": step ", options.step, ", tolerance ", options.tolerance,
        ", projections ", options.projections, "; the step must be above 0, the others at least 0");
  Check check_state{name, function, {}, options, {}};
  for (const Tensor& input : inputs) {
    check(input.defined(), "gradcheck of ", name, ": an input is undefined");
    check(!input.is_floating() || input.dtype() == DType::float64, "gradcheck of ", name,
          ": an input is float32; the difference quotient needs float64, convert it by to()");
    check(input.device() == Device::cpu, "gradcheck of ", name, ": an input is on ",
          to_string(input.device()),
          "; its elements are moved one by one: copy it by to(Device::cpu)");
    Tensor copy = input.clone();
    check_state.inputs.push_back(copy.set_requires_grad(input.requires_grad()));
  }
  Generator generator{options.seed, 0};
  const Tensor output = function(check_state.inputs);
  check(output.defined(), "gradcheck of ", name, ": the function returns an undefined tensor");
  check_state.c = Tensor::randn(output.shape(), generator, DType::float64);
  check(output.requires_grad(), "gradcheck of ", name,
        ": no gradient reaches the output; mark "
        "inputs by set_requires_grad()");
  sum(output * check_state.c).backward();

  NoGrad no_grad;
  for (int i = 0; i < options.projections; ++i)
    check_state.one_projection(i, generator);
  const GradcheckResult along_directions = check_state.result;
  if (options.projections > 0 && along_directions.passed) return along_directions;
  check_state.result = {};
  check_state.every_element();
  // A direction adds up errors that may be too small for each element to fail by itself.
  return along_directions.passed || !check_state.result.passed ? check_state.result
                                                               : along_directions;
}

}  // namespace chalk
