#include "examples/fer/canvas.h"

#include <algorithm>
#include <cmath>

namespace chalk {

Path smooth(const Path& points, bool closed) {
  constexpr int kPieces = 6;
  const Index count = static_cast<Index>(points.size());
  auto at = [&](Index i) {
    return points[closed ? (i + count) % count : std::clamp<Index>(i, 0, count - 1)];
  };
  Path curve;
  for (Index i = 0; i < (closed ? count : count - 1); i++) {
    const Point a = at(i - 1), b = at(i), c = at(i + 1), d = at(i + 2);
    for (int piece = 0; piece < kPieces; piece++) {
      const float t = piece / float(kPieces), t2 = t * t, t3 = t2 * t;
      curve.push_back(0.5f * ((-t + 2 * t2 - t3) * a + (2 - 5 * t2 + 3 * t3) * b +
                              (t + 4 * t2 - 3 * t3) * c + (t3 - t2) * d));
    }
  }
  if (!closed) curve.push_back(points.back());
  return curve;
}

Path ellipse(Point center, float radius_x, float radius_y) {
  constexpr int kPoints = 32;
  Path path;
  for (int i = 0; i < kPoints; i++) {
    const float angle = i * 6.2831853f / kPoints;
    path.push_back(center + Point{radius_x * std::cos(angle), radius_y * std::sin(angle)});
  }
  return path;
}

Path stroke(const Path& line, float width, float taper) {
  const Index last = static_cast<Index>(line.size()) - 1;
  Path left, right;
  for (Index i = 0; i <= last; i++) {
    const Point ahead = line[std::min(i + 1, last)] - line[std::max<Index>(i - 1, 0)];
    const float length = std::max(std::hypot(ahead.x, ahead.y), 1e-6f);
    const float middle = std::sin(3.1415927f * i / last);
    const float radius = 0.5f * width * (1 - taper * (1 - middle)) / length;
    const Point along = radius * ahead, across = {-along.y, along.x};
    if (i == 0) left.push_back(line[i] - along);  // a round end, in two more points
    if (i == 0) left.push_back(line[i] - 0.7f * along + 0.7f * across);
    left.push_back(line[i] + across);
    if (i == 0) right.push_back(line[i] - 0.7f * along - 0.7f * across);
    right.push_back(line[i] - across);
    if (i == last) left.push_back(line[i] + 0.7f * along + 0.7f * across);
    if (i == last) left.push_back(line[i] + along);
    if (i == last) right.push_back(line[i] + 0.7f * along - 0.7f * across);
  }
  left.insert(left.end(), right.rbegin(), right.rend());
  return left;
}

Mask intersect(const Mask& a, const Mask& b) {
  Mask both = a;
  for (size_t i = 0; i < both.coverage.size(); i++)
    both.coverage[i] *= b.coverage[i];
  return both;
}

Mask subtract(const Mask& a, const Mask& b) {
  Mask rest = a;
  for (size_t i = 0; i < rest.coverage.size(); i++)
    rest.coverage[i] *= 1 - b.coverage[i];
  return rest;
}

// The mean, over x0 <= x <= x1, of the part of the unit-wide column ending at `end` that is right
// of x: with G the integral of the ramp clamp(u, 0, 1), (G(end - x0) - G(end - x1)) / (x1 - x0).
static float share_right_of(float x0, float x1, float end) {
  if (x1 <= end - 1) return 1;
  if (x1 - x0 < 0.01f) return std::clamp(end - 0.5f * (x0 + x1), 0.0f, 1.0f);
  auto ramp_integral = [](float u) { return u <= 0 ? 0 : u < 1 ? 0.5f * u * u : u - 0.5f; };
  return (ramp_integral(end - x0) - ramp_integral(end - x1)) / (x1 - x0);
}

// Adds one edge to `change`: summed along each row, it holds the signed area of every pixel that
// lies to the right of the edges, and those of a closed path leave its inside.
static void add_edge(Point from, Point to, Index size, std::vector<float>& change) {
  if (from.y == to.y) return;
  const float direction = from.y < to.y ? 1 : -1;
  if (from.y > to.y) std::swap(from, to);
  const float slope = (to.x - from.x) / (to.y - from.y), limit = static_cast<float>(size - 1);
  const float first = std::max(from.y, 0.0f), end = std::min(to.y, limit + 1);
  for (Index row = static_cast<Index>(first); static_cast<float>(row) < end; row++) {
    const float y0 = std::max(first, static_cast<float>(row));
    const float y1 = std::min(end, static_cast<float>(row + 1));
    float x0 = from.x + (y0 - from.y) * slope, x1 = from.x + (y1 - from.y) * slope;
    if (x0 > x1) std::swap(x0, x1);
    const Index column0 = static_cast<Index>(std::clamp(std::floor(x0), 0.0f, limit));
    const Index column1 = static_cast<Index>(std::clamp(std::floor(x1) + 1, 0.0f, limit));
    float before = 0;
    for (Index i = column0; i <= column1; i++) {
      const float right = share_right_of(x0, x1, static_cast<float>(i + 1));
      change[row * size + i] += direction * (y1 - y0) * (right - before);
      before = right;
    }
  }
}

Mask Canvas::cover(const Path& path) const {
  Mask mask{0, 0, std::vector<float>(size_ * size_)};
  float top = float(size_), bottom = 0;
  for (size_t i = 0; i < path.size(); i++) {
    add_edge(path[i], path[(i + 1) % path.size()], size_, mask.coverage);
    top = std::min(top, path[i].y);
    bottom = std::max(bottom, path[i].y);
  }
  mask.top = static_cast<Index>(std::max(top, 0.0f));
  mask.bottom = static_cast<Index>(std::min(std::ceil(bottom), float(size_)));
  for (Index row = mask.top; row < mask.bottom; row++) {
    float area = 0;
    for (Index i = row * size_; i < (row + 1) * size_; i++) {
      area += mask.coverage[i];
      mask.coverage[i] = std::min(std::abs(area), 1.0f);
    }
  }
  return mask;
}

void Canvas::fill(const Mask& mask, Color color, float opacity) {
  for (Index i = mask.top * size_; i < mask.bottom * size_; i++) {
    pixels_[i] = mix(pixels_[i], color, opacity * mask.coverage[i]);
  }
}

void Canvas::glow(Point center, float radius, Color color, float opacity, const Mask* inside) {
  auto bound = [&](float v) { return static_cast<Index>(std::clamp(v, 0.0f, float(size_))); };
  for (Index row = bound(center.y - radius); row < bound(center.y + radius + 1); row++) {
    for (Index column = bound(center.x - radius); column < bound(center.x + radius + 1); column++) {
      const float x = (column + 0.5f - center.x) / radius, y = (row + 0.5f - center.y) / radius;
      const float rest = std::max(1 - x * x - y * y, 0.0f);
      const float share = inside ? inside->coverage[row * size_ + column] : 1;
      Color& pixel = pixels_[row * size_ + column];
      pixel = mix(pixel, color, opacity * rest * rest * share);
    }
  }
}

void Canvas::blur(float amount) {
  const std::vector<Color> sharp = pixels_;
  auto at = [&](Index row, Index column) {
    return sharp[std::clamp<Index>(row, 0, size_ - 1) * size_ +
                 std::clamp<Index>(column, 0, size_ - 1)];
  };
  for (Index row = 0; row < size_; row++) {
    for (Index column = 0; column < size_; column++) {
      Color sum;
      for (Index i = 0; i < 9; i++) {
        const Color c = at(row + i / 3 - 1, column + i % 3 - 1);
        sum = {sum.r + c.r / 9, sum.g + c.g / 9, sum.b + c.b / 9};
      }
      pixels_[row * size_ + column] = mix(at(row, column), sum, amount);
    }
  }
}

Image Canvas::image() const {
  Image image{size_, size_, std::vector<std::uint8_t>(size_ * size_ * 3)};
  for (Index i = 0; i < size_ * size_; i++) {
    const float channels[3] = {pixels_[i].r, pixels_[i].g, pixels_[i].b};
    for (Index c = 0; c < 3; c++) {
      const float byte = std::clamp(channels[c], 0.0f, 1.0f) * 255 + 0.5f;
      image.pixels[i * 3 + c] = static_cast<std::uint8_t>(byte);
    }
  }
  return image;
}

}  // namespace chalk
