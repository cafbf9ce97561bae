#include "examples/fer/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/check.h"
#include "data/safetensors.h"
#include "examples/fer/draw.h"
#include "examples/fer/fields.h"

namespace chalk::fer {

using Json = nlohmann::json;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RunState, step, epoch, batch, images, correct, loss_sum,
                                   best_accuracy, best_epoch)

void check_sizes(const NetworkSizes& sizes) {
  check(sizes.image_size >= kMinImageSize && sizes.image_size <= kMaxImageSize, "--image-size ",
        sizes.image_size, ": the network needs ", kMinImageSize, " to ", kMaxImageSize, " pixels");
  check(sizes.heads >= 1 && 256 % sizes.heads == 0, "--heads ", sizes.heads,
        ": must divide 256, the dimensions of the attention: 1, 2, 4, ..., 256");
}

// ---- metadata: strings, here of JSON, so that numbers come back exactly ----

static std::map<std::string, std::string> to_metadata(const Json& values) {
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : values.items())
    metadata[key] = value.is_string() ? value.get<std::string>() : value.dump();
  return metadata;
}

// What is no number stays a string, unparsed where it is too long for one: a file may nest JSON as
// deep as it likes. So does what should be an integer, some without a sign, and is out of its
// type's range.
static Json from_metadata(const std::map<std::string, std::string>& metadata) {
  Json values = Json::object();
  for (const auto& [key, text] : metadata) {
    const Json value = text.size() <= 32 ? Json::parse(text, nullptr, false) : Json();
    const bool is_real = key == "loss_sum" || key == "best_accuracy";  // the others become integers
    const double number = value.is_number() ? value.get<double>() : NAN;
    const bool fits = value.is_number() && (is_real || (number > -1 && number < 0x1p62));
    values[key] = value.is_number_integer() || fits ? value : Json(text);
  }
  return values;
}

static Json network_metadata(const NetworkSizes& sizes) {
  Json names = Json::array();
  for (const char* name : kExpressionNames)
    names.push_back(name);
  return {{"format", "pt"},
          {"image_size", sizes.image_size},
          {"heads", sizes.heads},
          {"class_names", names}};
}

std::string find_not_finite(const StateDict& weights) {
  for (const auto& [name, tensor] : weights) {
    if (!tensor.is_floating()) continue;
    const std::vector<float> values = tensor.to_vector<float>();
    if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
      return name;
  }
  return "";
}

// ---- checkpoints ----

// The tensors whose names begin with the prefix, without it.
static StateDict with_prefix(const TensorFile& file, const std::string& prefix) {
  StateDict part;
  for (const auto& [name, tensor] : file.tensors)
    if (name.starts_with(prefix)) part[name.substr(prefix.size())] = tensor;
  return part;
}

static Json run_metadata(const RunState& state, const Generator& generator) {
  Json metadata = state;
  metadata["generator_seed"] = generator.seed;
  metadata["generator_counter"] = generator.counter;
  return metadata;
}

// Takes the weights of a file, or those of a checkpoint, into the model.
static void take_weights(const TensorFile& file, const std::string& path, FerNet& model) {
  ErrorScope scope(path);
  const StateDict of_checkpoint = with_prefix(file, "model.");
  const StateDict& weights = of_checkpoint.empty() ? file.tensors : of_checkpoint;
  model.load_state_dict(weights);
  const std::string damaged = find_not_finite(weights);
  check(damaged.empty(), damaged, " is not finite, these weights are damaged; take others");
}

void save_checkpoint(const std::string& path, const NetworkSizes& sizes, const FerNet& model,
                     Optimizer& optimizer, const RunState& state) {
  Json metadata = network_metadata(sizes);
  metadata.update(run_metadata(state, default_generator()));
  TensorFile file{{}, to_metadata(metadata)};
  for (const auto& [name, tensor] : model.state_dict())
    file.tensors["model." + name] = tensor;
  for (const auto& [name, tensor] : optimizer.state())
    file.tensors["optimizer." + name] = tensor;
  write_safetensors(path, file);
}

static void check_values(const RunState& state, const std::string& path) {
  const auto check_count = [&](const char* field, Index value, Index limit) {
    check_range(path + ": " + field, value, Index{0}, limit);
  };
  check_count("step", state.step, kMaxSteps);
  check_count("epoch", state.epoch, state.step);
  check_count("batch", state.batch, state.step);
  check_count("images", state.images, kMaxSteps);
  check_count("correct", state.correct, state.images);
  check_count("best_epoch", state.best_epoch, state.epoch);
  check_range(path + ": loss_sum", state.loss_sum, 0.0, std::numeric_limits<double>::max());
  check_range(path + ": best_accuracy", state.best_accuracy, -1.0, 1.0);
}

RunState load_checkpoint(const std::string& path, FerNet& model, Optimizer& optimizer,
                         const std::optional<NetworkSizes>& sizes) {
  const TensorFile file = read_safetensors(path);
  const Json metadata = from_metadata(file.metadata);
  RunState state;
  NetworkSizes saved;
  Generator generator;
  try {
    state = metadata.get<RunState>();
    saved = {metadata.at("image_size"), metadata.at("heads")};
    generator = {metadata.at("generator_seed"), metadata.at("generator_counter")};
  } catch (const Json::exception& error) {
    fail(path, ": this is no checkpoint of a run (", error.what(),
         "); to start a new run from weights, use --init");
  }
  check_exact(metadata, run_metadata(state, generator), path);
  check_values(state, path);
  if (sizes)
    check(saved.image_size == sizes->image_size && saved.heads == sizes->heads, path,
          ": a checkpoint of image_size ", saved.image_size, " and heads ", saved.heads,
          ", the run's config.json says ", sizes->image_size, " and ", sizes->heads,
          "; it is of another run");
  take_weights(file, path, model);
  ErrorScope scope(path);
  optimizer.load_state(with_prefix(file, "optimizer."));
  for (Index count : optimizer.state().at("step").to_vector<Index>())
    check_range("optimizer.step", count, Index{0}, state.step);
  default_generator() = generator;
  return state;
}

// ---- weights ----

void save_weights(const std::string& path, const NetworkSizes& sizes, const FerNet& model,
                  const RunState& state) {
  Json metadata = network_metadata(sizes);
  metadata["epoch"] = state.best_epoch;
  metadata["accuracy"] = state.best_accuracy;
  write_safetensors(path, {model.state_dict(), to_metadata(metadata)});
}

void load_weights(const std::string& path, FerNet& model) {
  take_weights(read_safetensors(path), path, model);
}

LoadedNetwork load_network(const std::string& path, std::optional<Index> image_size,
                           std::optional<Index> heads) {
  const TensorFile file = read_safetensors(path);
  const Json metadata = from_metadata(file.metadata);
  NetworkSizes sizes;
  try {
    sizes.image_size = image_size.value_or(metadata.value("image_size", sizes.image_size));
    sizes.heads = heads.value_or(metadata.value("heads", sizes.heads));
  } catch (const Json::exception& error) {
    fail(path, ": its metadata does not hold numbers (", error.what(),
         "); the file is damaged or was saved by another program");
  }
  check_sizes(sizes);
  LoadedNetwork network{sizes, std::make_unique<FerNet>(sizes.heads)};
  take_weights(file, path, *network.model);
  network.model->eval();
  return network;
}

}  // namespace chalk::fer
