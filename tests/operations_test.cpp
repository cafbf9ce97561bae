// Every operation of the registry: values, gradients, errors; and that the registry is complete.
#include "autograd/operations.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <set>

#include "autograd/gradcheck.h"
#include "autograd/node.h"
#include "data/files.h"
#include "tests/registry.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

namespace {

const Fixture& fixture() {
  static const Fixture loaded("operations");
  return loaded;
}

// Copies of a case's inputs; those with a gradient in the fixture are leaves.
Tensors inputs_of(const std::string& name, DType dtype, Device device = Device::cpu) {
  Tensors inputs;
  for (int i = 0; fixture().has(name + ".input" + std::to_string(i)); ++i) {
    const Tensor stored = fixture().at(name + ".input" + std::to_string(i));
    Tensor input = stored.is_floating() ? stored.to(dtype) : stored;
    input = input.clone().to(device);
    input.set_requires_grad(fixture().has(name + ".grad" + std::to_string(i)));
    inputs.push_back(input);
  }
  return inputs;
}

// Calls visit(case, "<operation>.<case>") for every case of every operation.
void for_every_case(
    const std::function<void(const Operation&, const Case&, const std::string&)>& visit) {
  for (const Operation& operation : registry())
    for (const Case& test : operation.cases)
      visit(operation, test, operation.name + "." + test.name);
}

// ---- completeness ----

// "const Tensor& a, double b" has the types "Tensor, double".
std::string types_of(const std::string& parameters) {
  std::istringstream text(parameters);
  std::string types;
  for (std::string parameter; std::getline(text, parameter, ',');) {
    std::istringstream words(parameter);
    std::string word;
    while (words >> word && word == "const") {
    }
    types += (types.empty() ? "" : ", ") + word.substr(0, word.find('&'));
  }
  return types;
}

// What a header declares in lines that begin with a type: "conv2d"; for operators
// "operator+(Tensor, double)".
std::set<std::string> declared_operations(const std::string& header) {
  std::set<std::string> names;
  std::size_t line = 0;
  while ((line = header.find('\n', line)) != std::string::npos) {
    const std::size_t begin = ++line, end = header.find('\n', begin),
                      open = header.find('(', begin);
    if (open >= end || !std::isalpha(static_cast<unsigned char>(header[begin]))) continue;
    const std::size_t name_begin = header.rfind(' ', open) + 1;
    const std::string name = header.substr(name_begin, open - name_begin);
    const std::string types = types_of(header.substr(open + 1, header.find(')', open) - open - 1));
    names.insert(name.starts_with("operator") ? name + "(" + types + ")" : name);
  }
  return names;
}

// What an entry lacks of all that the plan asks for.
std::vector<std::string> gaps(const Operation& operation) {
  std::vector<std::string> missing;
  bool one = false, prime = false, empty = operation.empty_is_error;
  for (const Case& test : operation.cases) {
    const std::string name = operation.name + "." + test.name;
    if (!fixture().has(name + ".output")) missing.push_back("fixture of case " + test.name);
    if (fixture().has(name + ".output"))
      empty = empty || fixture().at(name + ".output").numel() == 0;
    bool gradient = false;
    for (const Tensor& input : inputs_of(name, DType::float64)) {
      one = one || input.numel() == 1;
      empty = empty || input.numel() == 0;
      gradient = gradient || input.requires_grad();
      for (const Index size : input.shape())
        prime = prime || std::set<Index>{3, 5, 7, 11, 13, 17, 37, 67}.count(size);
    }
    if (operation.differentiable && !gradient) missing.push_back("gradient in case " + test.name);
  }
  if (!one) missing.push_back("case of one element");
  if (!prime) missing.push_back("case with a prime size");
  if (!empty) missing.push_back("case with an empty tensor");
  if (operation.errors.empty()) missing.push_back("shape errors");
  for (const ShapeError& error : operation.errors)
    if (error.words.empty()) missing.push_back("words of a shape error");
  return missing;
}

}  // namespace

TEST_CASE("every operation of operations.h is in the registry, and nothing else") {
  const std::vector<std::uint8_t> bytes = read_file(CHALK_FIXTURES "/../../autograd/operations.h");
  const std::set<std::string> declared = declared_operations({bytes.begin(), bytes.end()});
  std::set<std::string> registered;
  for (const Operation& operation : registry())
    CHECK_MESSAGE(registered.insert(operation.name).second, operation.name, " is there twice");
  for (const std::string& name : declared)
    CHECK_MESSAGE(registered.count(name), name, " has no entry in tests/registry.cpp");
  for (const std::string& name : registered)
    CHECK_MESSAGE(declared.count(name), name, " is not declared in operations.h");
}

TEST_CASE("the registry lacks nothing, and the fixture holds nothing more") {
  std::set<std::string> cases;
  for (const Operation& operation : registry()) {
    for (const std::string& gap : gaps(operation))
      FAIL_CHECK(operation.name, " has no ", gap);
    for (const Case& test : operation.cases)
      cases.insert(operation.name + "." + test.name);
  }
  for (const auto& entry : fixture().tensors) {
    const std::string& name = entry.first;
    CHECK_MESSAGE(cases.count(name.substr(0, name.rfind('.'))), name, " is not tested");
  }
}

TEST_CASE("what is missing in the registry is noticed") {
  CHECK(
      declared_operations("\n// Tensor no(const Tensor& x);\nstruct S {\n  Tensor no(int x);\n};\n"
                          "Tensor gelu(const Tensor& x);\ninline Tensor operator+(const Tensor& "
                          "a,\n double b) {\nstd::vector<Tensor> split(const Tensor& x,\n") ==
      std::set<std::string>{"gelu", "operator+(Tensor, double)", "split"});
  const auto f = [](const Tensors& x) { return x[0]; };
  CHECK(gaps({"gelu", {{"plain", f}}, {}}) ==
        std::vector<std::string>{"fixture of case plain", "gradient in case plain",
                                 "case of one element", "case with a prime size",
                                 "case with an empty tensor", "shape errors"});
  CHECK(gaps({"relu", {{"scalar", f}, {"empty", f}}, {{[] {}, {}}}}) ==
        std::vector<std::string>{"case with a prime size", "words of a shape error"});
  CHECK(gaps({"argmax", {{"default", f}}, {{[] {}, {"x"}}}, false, true}) ==
        std::vector<std::string>{"case of one element"});
}

// ---- values and gradients ----

namespace {

// Runs one case forward and backward and compares all that the fixture holds of it.
void check_case(const Case& test, const std::string& name, DType dtype, Device device) {
  const double tolerance = dtype == DType::float64 ? 1e-12 : 1e-5;
  const Tensors inputs = inputs_of(name, dtype, device);
  const Tensor output = test.function(inputs);
  check_close("output", output, fixture().at(name + ".output"), tolerance);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (const std::string after = name + ".after" + std::to_string(i); fixture().has(after))
      check_close("input " + std::to_string(i), inputs[i], fixture().at(after), tolerance);
  if (!fixture().has(name + ".grad_output")) {
    CHECK(output.dtype() == DType::int64);
    CHECK(!output.requires_grad());
    return;
  }
  CHECK(output.dtype() == dtype);
  CHECK(output.device() == device);
  output.backward(fixture().at(name + ".grad_output").to(dtype).to(device));
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].requires_grad())
      check_close("gradient " + std::to_string(i), inputs[i].grad(),
                  fixture().at(name + ".grad" + std::to_string(i)), tolerance);
}

}  // namespace

TEST_CASE("values and gradients are PyTorch's") {
  for_every_case([](const Operation&, const Case& test, const std::string& name) {
    for (const Device device : devices())
      for (const DType dtype : {DType::float64, DType::float32}) {
        INFO(name, " ", std::string(to_string(dtype)), " ", std::string(to_string(device)));
        check_case(test, name, dtype, device);
      }
  });
}

TEST_CASE("values and gradients are PyTorch's without fusion") {
  const Choices before;
  set_fusion(false);
  for_every_case([](const Operation&, const Case& test, const std::string& name) {
    INFO(name);
    check_case(test, name, DType::float64, Device::cpu);
  });
}

TEST_CASE("values and gradients are PyTorch's on every rung") {
  const Choices before;
  for (const Device device : devices()) {
    if (device != Device::cpu && !has_cuda_kernels) continue;
    std::vector<Way> all = convolution_ways(device);
    for (const std::vector<Way>& others : {product_ways(device), row_ways(device)})
      all.insert(all.end(), others.begin(), others.end());
    for (const Way& way : all) {
      way.choose();
      for_every_case([&](const Operation&, const Case& test, const std::string& name) {
        for (const DType dtype : {DType::float64, DType::float32}) {
          INFO(name, " ", std::string(to_string(dtype)), " ", to_string(device), " ", way.name);
          check_case(test, name, dtype, device);
        }
      });
    }
  }
}

TEST_CASE("recorded or not, an operation gives the same bits") {
  for_every_case([](const Operation&, const Case& test, const std::string& name) {
    const Tensor recorded = test.function(inputs_of(name, DType::float32));
    const NoGrad no_grad;
    const Tensor plain = test.function(inputs_of(name, DType::float32));
    CHECK_MESSAGE(difference(plain, recorded, 0).empty(), name);
    CHECK_MESSAGE(!plain.requires_grad(), name);
  });
}

TEST_CASE("gradcheck table") {
  std::printf("%-40s %5s  worst relative error\n", "operation", "cases");
  for (const Operation& operation : registry()) {
    if (!operation.differentiable) continue;
    double worst = 0;
    for (const Case& test : operation.cases) {
      const std::string name = operation.name + "." + test.name;
      for (const Device device : devices()) {
        const auto function = [&](const Tensors& inputs) {
          Tensors there;
          for (const Tensor& input : inputs)
            there.push_back(input.to(device));
          return test.function(there).to(Device::cpu);
        };
        const GradcheckResult result = gradcheck(name, function, inputs_of(name, DType::float64));
        CHECK_MESSAGE(result.passed, to_string(device), ": ", result.message);
        worst = std::max(worst, result.worst_error);
      }
    }
    std::printf("%-40s %5zu  %.1e\n", operation.name.c_str(), operation.cases.size(), worst);
  }
}

// ---- errors ----

TEST_CASE("wrong shapes are errors that say what is wrong") {
  for (const Operation& operation : registry())
    for (const ShapeError& error : operation.errors) {
      INFO(operation.name);
      check_error(error.call, error.words);
    }
}

namespace {

// What its errors call an operation: an operator is short for a function.
std::string name_in_errors(const std::string& name) {
  const std::map<std::string, std::string> functions = {{"operator-(Tensor)", "multiply"},
                                                        {"operator+", "add"},
                                                        {"operator-", "subtract"},
                                                        {"operator*", "multiply"},
                                                        {"operator/", "divide"}};
  if (const auto whole = functions.find(name); whole != functions.end()) return whole->second;
  const auto sign = functions.find(name.substr(0, name.find('(')));
  return sign == functions.end() ? name : sign->second;
}

}  // namespace

TEST_CASE("undefined inputs, integers, and two types in one call are errors that name it") {
  for_every_case([](const Operation& operation, const Case& test, const std::string& name) {
    const std::string start = name_in_errors(operation.name) + ": ";
    const Tensors valid = inputs_of(name, DType::float64);
    const auto floating =
        std::count_if(valid.begin(), valid.end(), [](const Tensor& x) { return x.is_floating(); });
    for (std::size_t i = 0; i < valid.size(); ++i) {
      INFO(name, " input ", i);
      Tensors inputs = inputs_of(name, DType::float64);
      inputs[i] = Tensor();
      const bool optional = operation.name == "conv2d" && i == 2;
      if (!optional) check_error([&] { test.function(inputs); }, {start, "undefined tensor"});
      for (const DType dtype : {DType::float32, DType::int64}) {
        const bool alone = floating == 1 && (dtype == DType::float32 || operation.any_type);
        if (alone || !valid[i].is_floating()) continue;
        inputs = inputs_of(name, DType::float64);
        inputs[i] = inputs[i].detach().to(dtype);
        check_error([&] { test.function(inputs); }, {start, to_string(dtype)});
      }
    }
  });
}

TEST_CASE("tensors of two devices in one call are an error that names them and the operation") {
  for_every_case([](const Operation& operation, const Case& test, const std::string& name) {
    const Tensors valid = inputs_of(name, DType::float32);
    for (std::size_t i = 0; i < valid.size() && valid.size() > 1; ++i) {
      INFO(name, " input ", i);
      Tensors inputs = valid;
      inputs[i] = valid[i].detach().to(Device::cuda);
      check_error([&] { test.function(inputs); }, {name_in_errors(operation.name) + ": ", "on cpu",
                                                   "on " + to_string(Device::cuda), "to()"});
    }
  });
}

TEST_CASE("operations that only arrange elements do so for every type") {
  for_every_case([](const Operation& operation, const Case& test, const std::string& name) {
    if (!operation.any_type) return;
    for (const DType dtype : {DType::int64, DType::uint8}) {
      INFO(name, " ", std::string(to_string(dtype)));
      Tensors inputs = inputs_of(name, DType::float64), converted;
      for (Tensor& input : inputs) {
        input = (input.detach() * 50.0 + 100.0).to(dtype).to(DType::float64);
        converted.push_back(input.to(dtype));
      }
      const Tensor y = test.function(converted);
      CHECK(y.dtype() == dtype);
      check_close("output", y, test.function(inputs), 0);
    }
  });
}

// ---- special values ----

TEST_CASE("relu has no gradient at 0") {
  Tensor x = Tensor::from<double>({-1, 0, 2}, {3}).set_requires_grad();
  relu(x).backward(Tensor::ones({3}, DType::float64));
  CHECK(x.grad().to_vector<double>() == std::vector<double>{0, 0, 1});
}

TEST_CASE("among equal maxima the first one counts") {
  Tensor x = Tensor::from<float>({1, 3, 3, 3, 2, 3}, {2, 3}).set_requires_grad();
  max(x).backward();
  CHECK(x.grad().to_vector<float>() == std::vector<float>{0, 1, 0, 0, 0, 0});
  x.zero_grad();
  max(x, {1}).backward(Tensor::ones({2}));
  CHECK(x.grad().to_vector<float>() == std::vector<float>{0, 1, 0, 1, 0, 0});
  CHECK(argmax(x).to_vector<Index>() == std::vector<Index>{1, 0});
  CHECK(argmax(x, 0).to_vector<Index>() == std::vector<Index>{1, 0, 0});

  Tensor image = Tensor::ones({1, 3, 3, 1}).set_requires_grad();
  sum(max_pool2d(image, 2, 1)).backward();
  CHECK(image.grad().to_vector<float>() == std::vector<float>{1, 1, 0, 1, 1, 0, 0, 0, 0});
  image.zero_grad();
  global_max_pool(image).backward();
  CHECK(image.grad().to_vector<float>() == std::vector<float>{1, 0, 0, 0, 0, 0, 0, 0, 0});
}

TEST_CASE("NaN is not swallowed") {
  const Tensor x = Tensor::from<float>({1, NAN, 2, 3}, {1, 2, 2, 1});
  CHECK(std::isnan(max(x).item()));
  CHECK(std::isnan(max_pool2d(x, 2, 1).item()));
  CHECK(std::isnan(global_max_pool(x).item()));
  CHECK(std::isnan(relu(x).to_vector<float>()[1]));
  CHECK(std::isnan(sum(softmax(reshape(x, {4}))).item()));
  CHECK(argmax(reshape(x, {4})).item() == 1);
}

TEST_CASE("large logits do not overflow") {
  for (const DType dtype : {DType::float32, DType::float64}) {
    const Tensor x = Tensor::from<double>({1e4, 0, -1e4}, {1, 3}).to(dtype);
    CHECK(softmax(x).to_vector<double>() == std::vector<double>{1, 0, 0});
    CHECK(log_softmax(x).to_vector<double>() == std::vector<double>{0, -1e4, -2e4});
    CHECK(cross_entropy(x, Tensor::from<std::int64_t>({2}, {1})).item() == 2e4);
    CHECK(sigmoid(x).to_vector<double>() == std::vector<double>{1, 0.5, 0});
    CHECK(tanh(x).to_vector<double>() == std::vector<double>{1, 0, -1});
  }
}

TEST_CASE("the mean of nothing is NaN, its gradient empty") {
  Tensor x = Tensor::zeros({0, 3}).set_requires_grad();
  const Tensor y = mean(x);
  CHECK(std::isnan(y.item()));
  y.backward();
  CHECK(x.grad().shape() == Shape{0, 3});
}

TEST_CASE("dropout goes on with the stream, so that two masks differ") {
  Generator generator{5, 0};
  const Tensor x = Tensor::ones({1000});
  const Tensor first = dropout(x, 0.25, generator), second = dropout(x, 0.25, generator);
  CHECK(generator.counter == 2000);
  CHECK(first.to_vector<float>() != second.to_vector<float>());
  Generator again{5, 1000};
  CHECK(dropout(x, 0.25, again).to_vector<float>() == second.to_vector<float>());
  int kept = 0;
  for (const float value : first.to_vector<float>()) {
    CHECK((value == 0 || value == 1 / 0.75f));
    kept += value != 0;
  }
  CHECK(kept == doctest::Approx(750).epsilon(0.06));  // 3 sigma = 41
}
