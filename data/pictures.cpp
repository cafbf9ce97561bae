#include "data/pictures.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <numeric>
#include <utility>

#include "autograd/check.h"
#include "data/font.h"

namespace chalk {
namespace {

struct Color {
  double red, green, blue;  // 0 to 255
};

constexpr Color kWhite{255, 255, 255}, kInk{40, 44, 52}, kGrey{120, 126, 138}, kGrid{228, 231, 236};

Color mix(const Color& from, const Color& to, double share) {
  const auto blend = [share](double a, double b) { return a + share * (b - a); };
  return {blend(from.red, to.red), blend(from.green, to.green), blend(from.blue, to.blue)};
}

// Where a text stands relative to its x: 0, half or the whole of its width to the left.
enum class Align { kLeft, kCenter, kRight };

// The distance between the dots of letters, in pixels: how large a text is.
constexpr double kSmall = 1.5, kNormal = 1.8, kLarge = 2.2;

double text_width(const std::string& text, double dot) {
  return (static_cast<double>(text.size()) * (kGlyphWidth + 1) - 2) * dot;
}

// A white sheet to draw on. Coordinates are pixels from the top left corner, y goes down.
class Sheet {
 public:
  Sheet(double width, double height)
      : image_{static_cast<Index>(height), static_cast<Index>(width), {}} {
    check(width * height <= kMaxImagePixels, "a picture of ", width, " x ", height,
          " pixels is too large; take shorter names");
    image_.pixels.assign(static_cast<std::size_t>(image_.height * image_.width * 3), 255);
  }

  void fill(double left, double top, double width, double height, const Color& color) {
    for (double y = top; y < top + height; ++y)
      for (double x = left; x < left + width; ++x)
        blend(static_cast<Index>(x), static_cast<Index>(y), color, 1);
  }

  // A line with round ends. A pixel is covered as far as its centre lies within the line's width.
  void line(double x0, double y0, double x1, double y1, double width, const Color& color) {
    const double length_squared = (x1 - x0) * (x1 - x0) + (y1 - y0) * (y1 - y0);
    const double reach = width / 2 + 1;
    for (double y = std::floor(std::min(y0, y1) - reach); y <= std::max(y0, y1) + reach; ++y) {
      for (double x = std::floor(std::min(x0, x1) - reach); x <= std::max(x0, x1) + reach; ++x) {
        const double px = x + 0.5 - x0, py = y + 0.5 - y0;  // the centre, from the line's start
        const double along =
            length_squared == 0
                ? 0
                : std::clamp((px * (x1 - x0) + py * (y1 - y0)) / length_squared, 0.0, 1.0);
        const double distance = std::hypot(px - along * (x1 - x0), py - along * (y1 - y0));
        blend(static_cast<Index>(x), static_cast<Index>(y), color, width / 2 + 0.5 - distance);
      }
    }
  }

  // Text whose capital letters are centred on y.
  void text(double x, double y, const std::string& text, double dot, const Color& color,
            Align align = Align::kLeft) {
    const double share = align == Align::kLeft ? 0 : align == Align::kCenter ? 0.5 : 1;
    double left = x - share * text_width(text, dot);
    for (char character : text) {
      glyph(left, y - (kCapitalHeight - 1) * dot / 2, character, dot, color);
      left += (kGlyphWidth + 1) * dot;
    }
  }

  Image image() && { return std::move(image_); }

 private:
  void blend(Index x, Index y, const Color& color, double opacity) {
    if (x < 0 || y < 0 || x >= image_.width || y >= image_.height || opacity <= 0) return;
    std::uint8_t* pixel = &image_.pixels[static_cast<std::size_t>((y * image_.width + x) * 3)];
    const Color below{double(pixel[0]), double(pixel[1]), double(pixel[2])};
    const Color mixed = mix(below, color, std::min(opacity, 1.0));
    pixel[0] = static_cast<std::uint8_t>(std::lround(mixed.red));
    pixel[1] = static_cast<std::uint8_t>(std::lround(mixed.green));
    pixel[2] = static_cast<std::uint8_t>(std::lround(mixed.blue));
  }

  // Joins the dots of a letter that touch, so that it looks written rather than dotted.
  void glyph(double left, double top, char character, double dot, const Color& color) {
    const int code = character < 32 || character > 126 ? '?' - 32 : character - 32;
    const auto is_set = [code](int column, int row) {
      return column >= 0 && column < kGlyphWidth && row < kGlyphHeight &&
             kFont[code / kGlyphsPerRow][row][code % kGlyphsPerRow * (kGlyphWidth + 1) + column] ==
                 '#';
    };
    for (int row = 0; row < kGlyphHeight; ++row) {
      for (int column = 0; column < kGlyphWidth; ++column) {
        if (!is_set(column, row)) continue;
        const double x = left + column * dot, y = top + row * dot;
        const auto join = [&](int dx, int dy) {
          line(x, y, x + dx * dot, y + dy * dot, 0.8 * dot, color);
        };
        const bool right = is_set(column + 1, row), below = is_set(column, row + 1);
        if (right) join(1, 0);
        if (below) join(0, 1);
        if (is_set(column + 1, row + 1) && !right && !below) join(1, 1);
        if (is_set(column - 1, row + 1) && !is_set(column - 1, row) && !below) join(-1, 1);
        join(0, 0);
      }
    }
  }

  Image image_;
};

// format("%.2f", 0.5) is "0.50".
[[gnu::format(printf, 1, 0)]] std::string format(const char* pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), pattern, value);
  return text;
}

// 1, 2 or 5 times a power of ten: a step that cuts the range into 4 to 10 parts.
double nice_step(double range) {
  const double power = std::pow(10, std::floor(std::log10(range)));
  const double parts = range / power;  // within 1 and 10
  return parts > 5 ? power : parts > 2 ? power / 2 : power / 5;
}

// Whether a value can be drawn: a loss that has run off to infinity can't.
bool is_shown(double value) {
  return std::abs(value) < 1e30;
}

// The values of an axis, from its first mark to its last.
struct Axis {
  double first, last, step;

  // Round marks that enclose the values from `low` to `high`.
  Axis(double low, double high) {
    const double size = std::max(std::abs(low), std::abs(high));
    const double range = high > low ? high - low : size;
    step = size == 0 ? 1 : nice_step(std::max({range, 1e-6 * size, 1e-30}));
    first = std::floor(low / step) * step;
    last = std::max(std::ceil(high / step) * step, first + step);
  }

  double share(double value) const { return (value - first) / (last - first); }
  int marks() const { return static_cast<int>(std::lround((last - first) / step)); }
  double value(int mark) const { return first + mark * step; }
  std::string name(int mark) const {
    const bool is_plain = step > 1e-4 && std::max(std::abs(first), std::abs(last)) < 1e6;
    const char* const patterns[] = {"%.0f", "%.1f", "%.2f", "%.3f", "%.4f"};
    const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
    return format(is_plain ? patterns[decimals] : "%g", value(mark));
  }
};

constexpr Color kHit{28, 92, 160}, kMiss{214, 82, 40};
constexpr std::array<Color, 6> kCurveColors = {
    {{28, 92, 160}, {226, 112, 28}, {40, 140, 88}, {190, 48, 60}, {124, 84, 168}, {20, 150, 160}}};

// A sheet with two axes: the epochs to the right, the values up.
struct Chart {
  static constexpr double kWidth = 840, kHeight = 500;
  static constexpr double kLeft = 84, kRight = 812, kTop = 64, kBottom = 432;  // of the area within

  Sheet sheet{kWidth, kHeight};
  double last_epoch;  // 2 or more
  Axis values;

  Chart(double last, const Axis& axis) : last_epoch(last), values(axis) {
    for (int mark = 0; mark <= values.marks(); ++mark) {
      const double height = y(values.value(mark));
      sheet.fill(kLeft, std::round(height), kRight - kLeft, 1, mark == 0 ? kGrey : kGrid);
      sheet.text(kLeft - 12, height, values.name(mark), kSmall, kGrey, Align::kRight);
    }
    const double step = std::max(1.0, nice_step(last_epoch - 1));
    for (double epoch = step; epoch <= last_epoch; epoch += step)
      name_epoch(epoch);
    if (step == 2) name_epoch(1);
    sheet.text((kLeft + kRight) / 2, kBottom + 46, "epoch", kSmall, kGrey, Align::kCenter);
  }

  double x(double epoch) const { return kLeft + (epoch - 1) / (last_epoch - 1) * (kRight - kLeft); }
  double y(double value) const { return kBottom - values.share(value) * (kBottom - kTop); }

  void name_epoch(double epoch) {
    sheet.text(x(epoch), kBottom + 18, format("%.0f", epoch), kSmall, kGrey, Align::kCenter);
  }

  // A line through the values, with dots on it where there is room for them.
  void draw(const std::vector<double>& curve, const Color& color) {
    for (std::size_t i = 0; i < curve.size(); ++i) {
      if (!is_shown(curve[i])) continue;
      const double epoch = static_cast<double>(i + 1);
      const double here_x = x(epoch), here_y = y(curve[i]);
      if (last_epoch <= 50) sheet.line(here_x, here_y, here_x, here_y, 5, color);
      if (i + 1 < curve.size() && is_shown(curve[i + 1]))
        sheet.line(here_x, here_y, x(epoch + 1), y(curve[i + 1]), 2.4, color);
    }
  }
};

constexpr Index kMaxCount = Index{1} << 48;  // the sum of 100 x 100 of them fits Index

void check_confusion(const std::vector<std::vector<Index>>& counts,
                     const std::vector<std::string>& class_names) {
  const std::size_t classes = class_names.size();
  check(classes >= 1 && classes <= 100 && counts.size() == classes,
        "draw_confusion_matrix: ", counts.size(), " rows of counts and ", classes,
        " class names, expected as many, 1 to 100");
  for (const std::vector<Index>& row : counts)
    check(row.size() == classes &&
              std::all_of(row.begin(), row.end(), [](Index n) { return n >= 0 && n <= kMaxCount; }),
          "draw_confusion_matrix: a row has ", row.size(), " counts, expected ", classes,
          ", none negative or above ", kMaxCount);
}

// One cell: the count and its share of the row, on a shade of it.
void draw_cell(Sheet& sheet, double left, double top, double width, double height, Index count,
               double share, bool is_hit) {
  sheet.fill(left + 1, top + 1, width - 2, height - 2,
             mix({246, 247, 249}, is_hit ? kHit : kMiss, std::sqrt(share)));
  const Color ink = count == 0 ? kGrey : share > 0.3 ? kWhite : kInk;
  const double x = left + width / 2, y = top + height / 2;
  sheet.text(x, count == 0 ? y : y - 9, std::to_string(count), kNormal, ink, Align::kCenter);
  if (count > 0)
    sheet.text(x, y + 11, format("%.1f %%", 100 * share), 1.2, mix(ink, kGrey, 0.2),
               Align::kCenter);
}

}  // namespace

Image draw_confusion_matrix(const std::vector<std::vector<Index>>& counts,
                            const std::vector<std::string>& class_names) {
  check_confusion(counts, class_names);
  const std::size_t classes = class_names.size();
  double name_width = text_width("predicted", kSmall);
  for (const std::string& name : class_names)
    name_width = std::max(name_width, text_width(name, kSmall));
  const double cell_width = name_width + 14, cell_height = 56;
  const double left = name_width + 36, top = 104;
  const double width = static_cast<double>(classes) * cell_width;
  Sheet sheet(left + width + 24, top + static_cast<double>(classes) * cell_height + 24);

  Index hits = 0, images = 0;
  for (std::size_t t = 0; t < classes; ++t) {
    const Index row = std::accumulate(counts[t].begin(), counts[t].end(), Index{0});
    hits += counts[t][t];
    images += row;
    const double y = top + static_cast<double>(t) * cell_height;
    sheet.text(left - 12, y + cell_height / 2, class_names[t], kSmall, kInk, Align::kRight);
    for (std::size_t p = 0; p < classes; ++p) {
      const double x = left + static_cast<double>(p) * cell_width;
      const double share =
          row == 0 ? 0 : static_cast<double>(counts[t][p]) / static_cast<double>(row);
      draw_cell(sheet, x, y, cell_width, cell_height, counts[t][p], share, t == p);
      if (t == 0)
        sheet.text(x + cell_width / 2, top - 16, class_names[p], kSmall, kInk, Align::kCenter);
    }
  }
  const double accuracy =
      images == 0 ? 0 : 100 * static_cast<double>(hits) / static_cast<double>(images);
  sheet.text(24, 30, format("accuracy %.2f %%", accuracy), kLarge, kInk);
  sheet.text(left + width, 30, std::to_string(hits) + " of " + std::to_string(images) + " images",
             kSmall, kGrey, Align::kRight);
  sheet.text(left - 12, top - 16, "true", kSmall, kGrey, Align::kRight);
  sheet.text(left + width / 2, top - 40, "predicted", kSmall, kGrey, Align::kCenter);
  return std::move(sheet).image();
}

Image draw_curves(const std::string& title, const std::vector<Curve>& curves) {
  std::size_t epochs = 2;
  std::vector<double> shown;
  for (const Curve& curve : curves) {
    epochs = std::max(epochs, curve.values.size());
    std::copy_if(curve.values.begin(), curve.values.end(), std::back_inserter(shown), is_shown);
  }
  if (shown.empty()) shown = {0, 1};
  const auto [low, high] = std::minmax_element(shown.begin(), shown.end());
  const bool is_zero_near = *low > 0 && *low < *high / 2;
  Chart chart(static_cast<double>(epochs), Axis(is_zero_near ? 0 : *low, *high));
  chart.sheet.text(Chart::kLeft, 30, title, kLarge, kInk);
  double legend = Chart::kRight;
  for (std::size_t i = curves.size(); i-- > 0;) {
    const Color& color = kCurveColors[i % kCurveColors.size()];
    chart.draw(curves[i].values, color);
    chart.sheet.text(legend, 30, curves[i].name, kSmall, kInk, Align::kRight);
    legend -= text_width(curves[i].name, kSmall) + 12;
    chart.sheet.line(legend - 22, 30, legend, 30, 3, color);
    legend -= 22 + 28;
  }
  return std::move(chart.sheet).image();
}

}  // namespace chalk
