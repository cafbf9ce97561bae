#include "examples/fer/predict.h"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>

#include "autograd/node.h"
#include "data/transforms.h"
#include "examples/fer/checkpoint.h"
#include "examples/fer/evaluate.h"

namespace chalk::fer {

static Tensor read_face(const std::string& path, Index size) {
  Tensor face({1, size, size, 3});
  image_to_floats(resize(read_image(path), size, size), face.mutable_data<float>());
  return face;
}

static void print_bars(const std::string& path, const Probabilities& probabilities) {
  std::cout << path << ": " << kExpressionNames[most_probable(probabilities)] << '\n';
  for (int label = 0; label < kExpressions; ++label) {
    const double share = probabilities[label];
    const std::string bar(static_cast<std::size_t>(std::lround(40 * share)), '#');
    std::cout << format("  %-9s %6.2f %%  ", kExpressionNames[label], 100 * share) << bar << '\n';
  }
}

static nlohmann::ordered_json to_json(const std::string& path, const Probabilities& probabilities) {
  const int predicted = most_probable(probabilities);
  nlohmann::ordered_json by_name;
  for (int label = 0; label < kExpressions; ++label)
    by_name[kExpressionNames[label]] = probabilities[label];
  return {{"image", path},
          {"predicted", kExpressionNames[predicted]},
          {"label", predicted + 1},
          {"probabilities", by_name}};
}

void predict(const PredictOptions& options) {
  const Device device = use_machine(options.machine);
  LoadedNetwork network = load_network(options.weights, options.image_size, options.heads);
  network.model->to(device);
  NoGrad no_grad;
  auto all = nlohmann::ordered_json::array();
  for (const std::string& path : options.images) {
    const Tensor face = read_face(path, network.sizes.image_size).to(device);
    const Probabilities probabilities = probabilities_of((*network.model)(face)).front();
    if (options.json)
      all.push_back(to_json(path, probabilities));
    else
      print_bars(path, probabilities);
  }
  constexpr auto replace = nlohmann::ordered_json::error_handler_t::replace;  // of bytes not UTF-8
  if (options.json) std::cout << all.dump(2, ' ', false, replace) << '\n';
}

}  // namespace chalk::fer
