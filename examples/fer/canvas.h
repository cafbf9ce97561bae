// A small anti-aliased drawing canvas: closed paths, brush strokes, masks and soft glows.
//
// Everything is a closed path, and a path becomes a mask: the exact share of each pixel that lies
// inside. Masks multiply (draw the iris only where the eye is open), and paint goes on through
// them.
#pragma once

#include <vector>

#include "data/image.h"

namespace chalk {

struct Point {
  float x = 0, y = 0;
};
inline Point operator+(Point a, Point b) {
  return {a.x + b.x, a.y + b.y};
}
inline Point operator-(Point a, Point b) {
  return {a.x - b.x, a.y - b.y};
}
inline Point operator*(float s, Point p) {
  return {s * p.x, s * p.y};
}

// Red, green, blue; 0 is dark, 1 is full.
struct Color {
  float r = 0, g = 0, b = 0;
};
inline Color mix(Color a, Color b, float share_of_b) {
  const float s = share_of_b;
  return {a.r + s * (b.r - a.r), a.g + s * (b.g - a.g), a.b + s * (b.b - a.b)};
}

using Path = std::vector<Point>;

// A Catmull-Rom curve through the points; a closed one returns to its first point.
Path smooth(const Path& points, bool closed);
Path ellipse(Point center, float radius_x, float radius_y);
// The outline of a brush drawn along `line`: `width` wide in the middle, width * (1 - taper) at
// the two ends, which are round.
Path stroke(const Path& line, float width, float taper);

// The covered share of every pixel, in [0, 1]. Rows outside [top, bottom) are empty.
struct Mask {
  Index top = 0, bottom = 0;
  std::vector<float> coverage;  // [size, size]
};
Mask intersect(const Mask& a, const Mask& b);
Mask subtract(const Mask& a, const Mask& b);

// A square picture; pixel (row, column) covers the unit square that begins at (column, row).
class Canvas {
 public:
  explicit Canvas(Index size) : size_(size), pixels_(size * size) {}

  Index size() const { return size_; }
  std::vector<Color>& pixels() { return pixels_; }

  Mask cover(const Path& path) const;
  void fill(const Mask& mask, Color color, float opacity = 1);
  void fill(const Path& path, Color color, float opacity = 1) { fill(cover(path), color, opacity); }
  // A soft spot, opaque in the middle and gone at the radius; only `inside` a mask if one is given.
  void glow(Point center, float radius, Color color, float opacity, const Mask* inside = nullptr);
  // Each pixel moves the share `amount` of the way to the mean of its 3 x 3 neighbourhood.
  void blur(float amount);
  // The pixels rounded to bytes.
  Image image() const;

 private:
  Index size_;
  std::vector<Color> pixels_;
};

}  // namespace chalk
