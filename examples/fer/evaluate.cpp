#include "examples/fer/evaluate.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <numeric>
#include <sstream>

#include "autograd/node.h"
#include "data/files.h"
#include "data/pictures.h"
#include "examples/fer/checkpoint.h"
#include "examples/fer/fields.h"

namespace chalk::fer {

namespace fs = std::filesystem;

// ---- figures ----

static double ratio(Index part, Index whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

Index Confusion::images_of(int label) const {
  return std::accumulate(counts[label].begin(), counts[label].end(), Index{0});
}

Index Confusion::images() const {
  Index sum = 0;
  for (int label = 0; label < kExpressions; ++label)
    sum += images_of(label);
  return sum;
}

Index Confusion::correct() const {
  Index sum = 0;
  for (int label = 0; label < kExpressions; ++label)
    sum += counts[label][label];
  return sum;
}

double Confusion::accuracy() const {
  return ratio(correct(), images());
}

double Confusion::recall(int label) const {
  return ratio(counts[label][label], images_of(label));
}

double Confusion::precision(int label) const {
  Index taken = 0;
  for (const auto& row : counts)
    taken += row[label];
  return ratio(counts[label][label], taken);
}

double Confusion::f1(int label) const {
  const double r = recall(label), p = precision(label);
  return r + p > 0 ? 2 * r * p / (r + p) : 0;
}

double Confusion::mean_recall() const {
  double sum = 0;
  int classes = 0;
  for (int label = 0; label < kExpressions; ++label) {
    if (images_of(label) == 0) continue;
    sum += recall(label);
    ++classes;
  }
  return classes > 0 ? sum / classes : 0;
}

// ---- reports ----

std::string Confusion::report() const {
  std::ostringstream text;
  text << "images of (row) taken for (column)\n" << std::setw(11) << "" << std::fixed;
  for (const char* name : kExpressionNames)
    text << std::setw(10) << name;
  for (int label = 0; label < kExpressions; ++label) {
    text << '\n' << std::setw(11) << std::left << kExpressionNames[label] << std::right;
    for (Index count : counts[label])
      text << std::setw(10) << count;
  }
  text << "\n\nclass        images    recall precision        F1\n";
  for (int label = 0; label < kExpressions; ++label) {
    text << std::setw(11) << std::left << kExpressionNames[label] << std::right << std::setw(8)
         << images_of(label) << std::setprecision(2);
    for (double share : {recall(label), precision(label), f1(label)})
      text << std::setw(8) << 100 * share << " %";
    text << '\n';
  }
  text << "\naccuracy " << 100 * accuracy() << " % (" << correct() << " of " << images()
       << "), mean of the classes' recalls " << 100 * mean_recall() << " %";
  return text.str();
}

std::string Confusion::csv() const {
  std::ostringstream text;
  text << "true";
  for (const char* name : kExpressionNames)
    text << ',' << name;
  for (int label = 0; label < kExpressions; ++label) {
    text << '\n' << kExpressionNames[label];
    for (Index count : counts[label])
      text << ',' << count;
  }
  text << '\n';
  return text.str();
}

void write_report(const std::string& folder, const Confusion& confusion) {
  write_file(folder + "/report.txt", confusion.report() + "\n");
  write_file(folder + "/confusion.csv", confusion.csv());
  write_png(
      folder + "/confusion.png",
      draw_confusion_matrix(confusion.counts, {kExpressionNames, kExpressionNames + kExpressions}));
}

// A row for each image; labels as on disk, 1 to 7. Names with commas, quotes or line breaks are
// quoted as RFC 4180 says.
static std::string predictions_csv(const std::vector<LabeledImage>& images,
                                   const std::vector<Probabilities>& probabilities) {
  std::ostringstream text;
  text << "image,label,predicted,p1,p2,p3,p4,p5,p6,p7\n" << std::setprecision(9);
  for (std::size_t i = 0; i < images.size(); ++i) {
    const std::string name = fs::path(images[i].path).filename().string();
    if (name.find_first_of(",\"\r\n") == std::string::npos)
      text << name;
    else
      text << std::quoted(name, '"', '"');
    text << ',' << images[i].label + 1 << ',' << most_probable(probabilities[i]) + 1;
    for (float probability : probabilities[i])
      text << ',' << probability;
    text << '\n';
  }
  return text.str();
}

// ---- evaluation ----

std::vector<Probabilities> probabilities_of(const Tensor& logits) {
  const std::vector<float> values = softmax(logits).to_vector<float>();
  std::vector<Probabilities> rows(values.size() / kExpressions);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]))
      throw NotFinite(
          format("the network answers %g instead of a probability, its weights are "
                 "damaged or have diverged",
                 values[i]));
    rows[i / kExpressions][i % kExpressions] = values[i];
  }
  return rows;
}

int most_probable(const Probabilities& probabilities) {
  const auto best = std::max_element(probabilities.begin(), probabilities.end());
  return static_cast<int>(best - probabilities.begin());
}

std::optional<Evaluation> evaluate(FerNet& model, DataLoader& loader, Device device,
                                   ProgressLine& progress) {
  NoGrad no_grad;
  model.eval();
  Evaluation result;
  double loss_sum = 0;
  Index batches = 0;
  loader.start_epoch(0);
  while (const std::optional<Batch> batch = loader.next()) {
    if (stop_requested()) return std::nullopt;
    const Tensor logits = model(batch->floats(device));
    const std::vector<Index> labels = batch->labels.to_vector<Index>();
    const std::vector<Probabilities> rows = probabilities_of(logits);
    for (std::size_t i = 0; i < rows.size(); ++i)
      ++result.confusion.counts[labels[i]][most_probable(rows[i])];
    result.probabilities.insert(result.probabilities.end(), rows.begin(), rows.end());
    loss_sum +=
        cross_entropy(logits, batch->labels.to(device)).item() * static_cast<double>(labels.size());
    progress.update("testing", ++batches, loader.batch_count(), "");
  }
  result.loss = loss_sum / static_cast<double>(loader.image_count());
  return result;
}

void evaluate(const EvaluateOptions& options) {
  check_range("--batch", options.batch, Index{1}, kMaxBatch);
  const Device device = use_machine(options.machine);
  LoadedNetwork network = load_network(options.weights, options.image_size, options.heads);
  network.model->to(device);
  const std::vector<LabeledImage> images = open_faces(options.data, false).test;
  DataLoader loader(images, {.batch_size = options.batch,
                             .height = network.sizes.image_size,
                             .width = network.sizes.image_size,
                             .shuffle = false,
                             .workers = options.machine.workers,
                             .bytes = device != Device::cpu,
                             .memory_bytes = 0});  // each image is needed once
  ProgressLine progress;
  const std::optional<Evaluation> result = evaluate(*network.model, loader, device, progress);
  if (!result) return;  // asked to stop
  progress.clear();
  std::cout << '\n' << result->confusion.report() << "\n\n";

  if (!options.predictions.empty())
    write_file(options.predictions, predictions_csv(images, result->probabilities));
  const fs::path folder = options.out.empty()
                              ? fs::path(options.weights).parent_path() / "evaluation"
                              : fs::path(options.out);
  std::error_code error;
  fs::create_directories(folder, error);
  check(!error, "cannot create ", folder.string(), ": ", error.message(),
        "; choose another folder with --out");
  write_report(folder.string(), result->confusion);
  std::cout << "written: report.txt, confusion.csv and confusion.png in " << folder.string()
            << '\n';
}

}  // namespace chalk::fer
