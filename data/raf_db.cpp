#include "data/raf_db.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include "autograd/check.h"
#include "data/files.h"

namespace chalk {

namespace fs = std::filesystem;

// ---- label files ----

static std::string trimmed(std::string text) {
  const auto is_margin = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '"'; };
  while (!text.empty() && is_margin(text.back()))
    text.pop_back();
  const auto begin = std::find_if_not(text.begin(), text.end(), is_margin);
  return {begin, text.end()};
}

// Separated by commas, or by blanks, of which several count as one.
static std::vector<std::string> fields_of(const std::string& line, char separator) {
  std::vector<std::string> fields;
  std::istringstream in(line);
  for (std::string field; std::getline(in, field, separator);) {
    field = trimmed(field);
    if (separator != ' ' || !field.empty()) fields.push_back(field);
  }
  return fields;
}

// 0 to 6 from "1" to "7".
static int parse_label(const std::string& text, const std::string& where) {
  int label = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), label);
  check(error == std::errc() && end == text.data() + text.size(), where, ": the label \"", text,
        "\" is not a number; expected 1 (surprise) to 7 (neutral)");
  check(label >= 1 && label <= 7, where, ": the label ", label,
        " is out of range; expected 1 (surprise) to 7 (neutral)");
  return label - 1;
}

struct LabelLine {
  std::string image;
  int label;
  std::string where;  // "train_labels.csv, line 7"
};

// The lines of a label file that are not blank. With a header, it names the columns; without one
// they are the image and its label.
static std::vector<LabelLine> read_labels(const fs::path& path, char separator, bool has_header) {
  const std::vector<std::uint8_t> bytes = read_file(path.string());
  std::istringstream in(std::string(bytes.begin(), bytes.end()));
  std::size_t image_column = 0, label_column = 1;
  std::vector<LabelLine> lines;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    if (number == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);  // a byte order mark
    if (trimmed(line).empty()) continue;
    const std::string where = path.string() + ", line " + std::to_string(number);
    const std::vector<std::string> fields = fields_of(line, separator);
    if (has_header) {
      const auto column = [&](const char* name) {
        const auto found = std::find(fields.begin(), fields.end(), name);
        check(found != fields.end(), where, ": the header has no column \"", name,
              "\"; expected \"image,label\"");
        return static_cast<std::size_t>(found - fields.begin());
      };
      image_column = column("image");
      label_column = column("label");
      has_header = false;
      continue;
    }
    check(fields.size() > std::max(image_column, label_column), where, ": \"", trimmed(line),
          "\" lacks an image or a label");
    check(!fields[image_column].empty(), where, ": the name of the image is empty");
    lines.push_back({fields[image_column], parse_label(fields[label_column], where), where});
  }
  return lines;
}

// Gathers the images of a label file; one error tells of all that are not there.
class ListedImages {
 public:
  void add(std::vector<LabeledImage>& images, const LabelLine& line, const fs::path& path) {
    ++listed_;
    if (!fs::is_regular_file(path) && missing_++ == 0)
      first_missing_ = line.where + ": there is no image " + path.string();
    images.push_back({path.string(), line.label});
  }

  void check_all_found() const {
    check(missing_ == 0, first_missing_, "; ", missing_, " of the ", listed_,
          " images are missing; unpack the data set again");
  }

 private:
  int listed_ = 0, missing_ = 0;
  std::string first_missing_;
};

// ---- the layouts ----

static std::vector<LabeledImage> kaggle_set(const fs::path& folder, const std::string& set) {
  std::vector<LabeledImage> images;
  ListedImages listed;
  for (const LabelLine& line : read_labels(folder / (set + "_labels.csv"), ',', true))
    listed.add(images, line,
               folder / "DATASET" / set / std::to_string(line.label + 1) / line.image);
  listed.check_all_found();
  return images;
}

static FaceSets official_sets(const fs::path& folder, bool with_training) {
  FaceSets faces{"RAF-DB's official layout", {}, {}};
  ListedImages listed;
  for (const LabelLine& line :
       read_labels(folder / "EmoLabel" / "list_patition_label.txt", ' ', false)) {
    const bool is_train = line.image.starts_with("train");
    check(is_train || line.image.starts_with("test"), line.where, ": \"", line.image,
          "\" begins neither with train nor with test");
    if (is_train && !with_training) continue;
    const std::string name = fs::path(line.image).stem().string() + "_aligned.jpg";
    listed.add(is_train ? faces.train : faces.test, line, folder / "Image" / "aligned" / name);
  }
  listed.check_all_found();
  return faces;
}

static std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// 0 to 6 from a folder's name, -1 if it is not a class.
static int class_of_folder(const std::string& name) {
  static const std::map<std::string, int> words = {
      {"surprise", 0}, {"surprised", 0}, {"fear", 1},  {"fearful", 1},   {"afraid", 1},
      {"disgust", 2},  {"disgusted", 2}, {"happy", 3}, {"happiness", 3}, {"sad", 4},
      {"sadness", 4},  {"angry", 5},     {"anger", 5}, {"neutral", 6}};
  if (name.size() == 1 && name[0] >= '1' && name[0] <= '7') return name[0] - '1';
  const auto found = words.find(lower_case(name));
  return found == words.end() ? -1 : found->second;
}

// The paths below a folder, sorted, so that every machine sees them in the same order.
static std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

static bool is_image_name(const fs::path& path) {
  static const std::set<std::string> endings = {".jpg", ".jpeg", ".png", ".bmp"};
  return endings.contains(lower_case(path.extension().string()));
}

static std::vector<LabeledImage> class_folders(const fs::path& folder) {
  std::vector<LabeledImage> images;
  for (const fs::path& entry : sorted_entries(folder)) {
    const int label = class_of_folder(entry.filename().string());
    if (label < 0 || !fs::is_directory(entry)) continue;
    for (const fs::path& file : sorted_entries(entry))
      if (is_image_name(file)) images.push_back({file.string(), label});
  }
  return images;
}

static FaceSets class_folder_sets(const fs::path& folder, bool with_training) {
  for (const char* test : {"test", "val", "validation"}) {
    if (!fs::is_directory(folder / test) || (with_training && !fs::is_directory(folder / "train")))
      continue;
    FaceSets faces{"a folder per class, in train/ and " + std::string(test) + "/", {}, {}};
    if (with_training) faces.train = class_folders(folder / "train");
    faces.test = class_folders(folder / test);
    return faces;
  }
  FaceSets faces{"a folder per class; every fifth image is for testing", {}, {}};
  std::array<int, 7> seen{};
  for (const LabeledImage& image : class_folders(folder))
    (++seen[static_cast<std::size_t>(image.label)] % 5 == 0 ? faces.test : faces.train)
        .push_back(image);
  return faces;
}

// ---- finding ----

static FaceSets kaggle_sets(const fs::path& folder, bool with_training) {
  FaceSets faces{"RAF-DB's layout on Kaggle", {}, {}};
  if (with_training) faces.train = kaggle_set(folder, "train");
  faces.test = kaggle_set(folder, "test");
  return faces;
}

static FaceSets detect(const fs::path& folder, bool with_training) {
  if (fs::exists(folder / "train_labels.csv") || fs::exists(folder / "test_labels.csv"))
    return kaggle_sets(folder, with_training);
  if (fs::exists(folder / "EmoLabel")) return official_sets(folder, with_training);
  FaceSets faces = class_folder_sets(folder, with_training);
  check(!faces.train.empty() || !faces.test.empty(), folder.string(),
        ": found no faces. Expected train_labels.csv and DATASET/ (Kaggle's layout), EmoLabel/ and "
        "Image/ (the official one), or a folder per class (1 to 7, or happy, sad, ...), directly "
        "or in train/ and test/");
  return faces;
}

FaceSets find_faces(const std::string& folder, bool with_training) {
  FaceSets faces;
  try {
    check(fs::is_directory(folder), folder,
          fs::exists(folder) ? " is not a folder" : ": there is no such folder",
          "; give the folder of the data set");
    faces = detect(folder, with_training);
  } catch (const fs::filesystem_error& error) {  // a folder that may not be read
    fail("cannot look for faces in ", folder, ": ", error.code().message(), " (",
         error.path1().string(), ")");
  }
  check(!faces.test.empty(), folder, ": the test set is empty (", faces.layout, ")");
  if (!with_training) return faces;
  check(!faces.train.empty(), folder, ": the training set is empty (", faces.layout, ")");
  std::array<int, 7> count{};
  for (const LabeledImage& image : faces.train)
    ++count[static_cast<std::size_t>(image.label)];
  for (std::size_t label = 0; label < count.size(); ++label)
    check(count[label] > 0, folder, ": the training set has no image of class ", label + 1, " (",
          kExpressionNames[label], ")");
  return faces;
}

}  // namespace chalk
