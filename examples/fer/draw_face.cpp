// One face: who it is, how it is turned, what its muscles do, and the painter that draws it.
//
// Lengths on the face are in hundredths of half a head: x to the right, y down, the origin between
// the eyes a little below them, the crown near y = -100, the chin near y = 100.
#include <algorithm>
#include <array>
#include <cmath>

#include "autograd/check.h"
#include "autograd/random.h"
#include "examples/fer/canvas.h"
#include "examples/fer/draw.h"

namespace chalk {
namespace {

// The muscles of a face, after the action units of the Facial Action Coding System (Ekman and
// Friesen, 1978). 0 is at rest, 1 pulls all the way, below 0 the other way.
enum Muscle {
  kInnerBrow,  // up
  kOuterBrow,  // up
  kFrown,      // brows together
  kUpperLid,   // up
  kSquint,     // lower lid up
  kNose,       // wrinkled
  kCorners,    // of the mouth, up
  kStretch,    // mouth wide
  kJaw,        // down
  kSneer,      // upper lip up
  kTeeth,      // shown
  kTongue,     // out
  kMuscles
};
using Muscles = std::array<float, kMuscles>;

// Each expression in two forms, in percent; a face is somewhere near one of them.
constexpr int kForms[kExpressions][2][kMuscles] = {
    // inner outer frown lid squint nose corners stretch jaw sneer teeth tongue
    {{90, 90, 0, 100, 0, 0, 0, -50, 100, 0, 0, 0},  // surprise: round eyes, round mouth
     {100, 100, 0, 80, 0, 0, 0, -75, 60, 0, 0, 0}},
    {{100, -10, 70, 90, 0, 0, -40, 40, 40, 0, 100, 0},  // fear: brows meet and rise, teeth chatter
     {100, 0, 80, 100, 0, 0, -70, 25, 50, 0, 50, 0}},
    {{-40, -20, 50, -45, 60, 100, -60, -10, 10, 100, 50, 0},  // disgust: nose and lip curl
     {-50, -10, 50, -50, 70, 100, -50, 0, 45, 80, 0, 100}},
    {{30, 35, 0, 0, 70, 0, 100, 40, 60, 0, 60, 0},  // happiness: corners and lower lids rise
     {20, 30, 0, -10, 60, 0, 100, 30, 0, 0, 0, 0}},
    {{90, -70, 40, -40, 0, 0, -90, -20, 0, 0, 0, 0},  // sadness: only the inner brows rise
     {100, -60, 50, -60, 0, 0, -100, -10, 20, 0, 0, 0}},
    {{-100, 40, 100, 20, 30, 20, -50, -10, 0, 0, 0, 0},  // anger: brows down, lips pressed or bared
     {-100, 50, 100, 30, 30, 40, -50, 25, 45, 20, 100, 0}},
    {{}, {}}};  // neutral

// Random choices in words. A stream per subject keeps one from changing the other.
class Chance {
 public:
  Chance(std::uint64_t seed, std::uint64_t stream) : generator_{seed, stream << 32} {}

  float between(float low, float high) {
    return low + (high - low) * static_cast<float>(generator_.uniform());
  }
  bool happens(float probability) { return generator_.uniform() < probability; }
  int below(int count) { return static_cast<int>(generator_.uniform() * count); }
  // Near a normal number of mean 0 and variance 1: the sum of three uniform ones.
  float about_zero() {
    float sum = 0;
    for (int i = 0; i < 3; i++)
      sum += between(-1, 1);
    return sum;
  }
  template <size_t count>
  Color one_of(const Color (&colors)[count]) {
    return colors[below(static_cast<int>(count))];
  }

 private:
  Generator generator_;
};

Muscles move_muscles(int expression, Chance chance) {
  const auto& form = kForms[expression][chance.happens(0.45f)];
  const float intensity = chance.between(0.7f, 1.1f) / 100;
  Muscles muscles;
  for (int i = 0; i < kMuscles; i++)
    muscles[i] = intensity * static_cast<float>(form[i]) + 0.07f * chance.about_zero();
  for (int i : {kNose, kJaw, kSneer, kTeeth, kTongue})  // these do not move by accident
    if (form[i] == 0) muscles[i] = 0;
  return muscles;
}

constexpr Color rgb(int hex) {
  return {(hex >> 16) / 255.0f, (hex >> 8 & 255) / 255.0f, (hex & 255) / 255.0f};
}
constexpr Color kSkins[] = {rgb(0xfad9c2), rgb(0xf5c9ab), rgb(0xe6b38c), rgb(0xcc9670),
                            rgb(0xa67352), rgb(0x805740), rgb(0x6b4736)};
constexpr Color kHairs[] = {rgb(0x1a1417), rgb(0x33211a), rgb(0x5c3821), rgb(0x8c542b),
                            rgb(0xd6a861), rgb(0xa84721), rgb(0x9e9c9e), rgb(0xdedbd6)};
constexpr Color kClothes[] = {rgb(0xd95247), rgb(0x386bb0), rgb(0xf5bf45), rgb(0x408c73),
                              rgb(0xede8e0), rgb(0x3d4052), rgb(0x9466a6), rgb(0xed8c6b)};
constexpr Color kBackgrounds[] = {rgb(0xb8d9e8), rgb(0xf2d6ad), rgb(0xc7debd), rgb(0xe8c7cc),
                                  rgb(0x8c9eb3), rgb(0xd4cfe6), rgb(0x5c6b80), rgb(0xede8db)};
constexpr Color kIrises[] = {rgb(0x382117), rgb(0x5c381f), rgb(0x40709e), rgb(0x4d7552),
                             rgb(0x66707a)};
constexpr Color kBlack = rgb(0x120d12), kWhite = rgb(0xffffff);

enum Hair { kBald, kCropped, kParted, kFringe, kLong, kCurly, kBun, kScarf, kHairStyles };

// Who it is and where the head is: nothing here knows the expression.
struct Person {
  explicit Person(Chance chance) {
    skin = chance.one_of(kSkins);
    skin = mix(skin, chance.one_of(kSkins), 0.25f);
    hair_color = chance.one_of(kHairs);
    if (std::abs(hair_color.g - skin.g) < 0.15f) hair_color = mix(hair_color, kBlack, 0.5f);
    clothes = chance.one_of(kClothes);
    iris = chance.one_of(kIrises);
    // Of ten, eight wear one of the styles as they come; two more stay off the bald.
    hair = static_cast<Hair>(chance.below(kHairStyles));
    if (hair == kBald && chance.happens(0.3f)) hair = kParted;
    jaw = chance.between(62, 80);
    length = chance.between(0.96f, 1.08f);
    eye_size = chance.between(1.05f, 1.3f);
    eye_distance = chance.between(35, 39);
    brow_width = chance.between(8, 12);
    brow_height = chance.between(-46, -41);
    nose_width = chance.between(10, 15);
    nose_length = chance.between(20, 28);
    mouth_width = chance.between(30, 36);
    lips = chance.between(5, 8.5f);
    age = chance.between(0, 1);
    glasses = chance.happens(0.22f);
    const bool can_have_beard = hair < kLong || hair == kCurly;
    beard = can_have_beard && chance.happens(0.25f);
    moustache = beard || (can_have_beard && chance.happens(0.1f));

    scale = chance.between(.40f, .45f);
    yaw = 0.13f * chance.about_zero();
    pitch = 0.07f * chance.about_zero();
    roll = 0.08f * chance.about_zero();
    center.x = 50 + 1.5f * chance.about_zero();
    center.y = 51 + 1.5f * chance.about_zero();
  }

  // Where a point of the face is in the picture: the face is a dome that turns and tilts, and
  // `height` is what the point stands out from it.
  Point place(Point p, float height) const {
    const float dome = 1 - p.x * p.x / 8000 - p.y * p.y / 14000;
    const float z = height == kOutline ? 0 : 75 * std::sqrt(std::max(dome, 0.0f)) + height;
    const float x = p.x * std::cos(yaw) + z * std::sin(yaw);
    const float y = p.y * length * std::cos(pitch) + z * std::sin(pitch);
    const float c = std::cos(roll), s = std::sin(roll);
    return center + scale * Point{c * x - s * y, s * x + c * y};
  }
  static constexpr float kOutline = -1000;  // the height of what is seen from all sides alike

  Color skin, hair_color, clothes, iris;
  Hair hair;
  float jaw, length, eye_size, eye_distance, brow_width, brow_height, nose_width, nose_length;
  float mouth_width, lips, age;
  bool glasses, beard, moustache;
  float scale, yaw, pitch, roll;  // pixels a hundredth; angles in radians
  Point center;
};
constexpr float kOutline = Person::kOutline;

float unit(float value) {
  return std::clamp(value, 0.0f, 1.0f);
}

// Points from x, y, x, y, ...
Path points(std::initializer_list<float> numbers) {
  Path path;
  for (auto number = numbers.begin(); number != numbers.end(); number += 2)
    path.push_back({number[0], number[1]});
  return path;
}

// A closed outline, alike on both sides, from its right half.
Path both_sides(Path path) {
  for (Index i = static_cast<Index>(path.size()) - 1; i >= 0; i--)
    if (path[i].x > 0) path.push_back({-path[i].x, path[i].y});
  return path;
}

struct Brush {
  float width;
  Color color;
  float opacity = 1, taper = 0.7f;
};

// Paints one face, from the back to the front.
class Painter {
 public:
  Painter(int expression, std::uint64_t seed)
      : person_(Chance(seed, 0)),
        muscle_(move_muscles(expression, Chance(seed, 1))),
        chance_(seed, 2),
        canvas_(kFaceSize),
        skin_(person_.skin),
        shadow_({.76f * skin_.r, .60f * skin_.g, .56f * skin_.b}),
        line_(mix(shadow_, kBlack, .6f)) {}

  Image paint() {
    paint_background();
    paint_back_hair();
    paint_body();
    paint_head();
    paint_nose();
    if (person_.beard) paint_beard();
    paint_mouth();
    for (float side : {-1.0f, 1.0f}) {
      if (person_.moustache) paint_moustache(side);
      paint_eye(side);
    }
    paint_front_hair();
    for (float side : {-1.0f, 1.0f})
      paint_brow(side);
    if (person_.glasses) paint_glasses();
    take_photograph();
    return canvas_.image();
  }

 private:
  // A curve of the face in the picture; side -1 mirrors it.
  Path place(const Path& path, bool closed, float side, float height) const {
    Path placed = smooth(path, closed);
    for (Point& p : placed)
      p = person_.place({side * p.x, p.y}, height);
    return placed;
  }
  Mask shape(const Path& path, float side = 1, float height = 0) const {
    return canvas_.cover(place(path, true, side, height));
  }
  Mask outline(const Path& right) const { return shape(both_sides(right), 1, kOutline); }
  Mask trace(const Path& path, const Brush& brush, float side = 1, float height = 0) const {
    const Path placed = place(path, false, side, height);
    return canvas_.cover(stroke(placed, brush.width * person_.scale, brush.taper));
  }
  void line(const Path& path, const Brush& brush, float side = 1, float height = 0) {
    if (brush.opacity <= 0) return;
    canvas_.fill(trace(path, brush, side, height), brush.color, brush.opacity);
  }
  void spot(Point p, float radius, Color color, float opacity, const Mask& inside) {
    canvas_.glow(person_.place(p, 0), radius * person_.scale, color, opacity, &inside);
  }
  // The head, `more` further out all round; the chin drops with the jaw.
  Path head(float more) const {
    const float chin = 100 + 10 * muscle_[kJaw] + more, jaw = person_.jaw + more;
    return points({0, -100 - more, 50 + more, -86 - more, 77 + more, -42, 79 + more, 2, jaw, 48,
                   .64f * jaw, chin - 16, 24, chin - 1, 0, chin});
  }

  void paint_background() {
    const Color a = chance_.one_of(kBackgrounds), b = chance_.one_of(kBackgrounds);
    const float slope_x = chance_.between(-.01f, .01f), slope_y = chance_.between(-.01f, .01f);
    for (Index i = 0; i < kFaceSize * kFaceSize; i++) {
      const float x = static_cast<float>(i % kFaceSize), y = static_cast<float>(i / kFaceSize);
      canvas_.pixels()[i] = mix(a, b, unit(0.5f + (x - 50) * slope_x + (y - 50) * slope_y));
    }
    for (int i = 0; i < 5; i++) {
      const Point center = {chance_.between(0, 100), chance_.between(0, 100)};
      const float radius = chance_.between(10, 40);
      canvas_.glow(center, radius, chance_.one_of(kBackgrounds), 0.6f);
    }
  }

  void paint_back_hair() {
    const Color dark = mix(person_.hair_color, kBlack, 0.35f);
    auto ball = [&](Point p, float radius) {
      radius *= person_.scale;
      canvas_.fill(ellipse(person_.place(p, kOutline), radius, radius), dark);
    };
    if (person_.hair == kLong)
      canvas_.fill(outline(points({0, -114, 62, -98, 96, -40, 100, 30, 104, 90, 90, 130, 0, 135})),
                   dark);
    if (person_.hair == kScarf)
      canvas_.fill(outline(points({0, -116, 62, -100, 95, -45, 98, 20, 86, 80, 100, 140, 0, 150})),
                   mix(person_.clothes, kBlack, 0.25f));
    if (person_.hair == kBun) ball({0, -116}, 33);
    for (int i = 0; person_.hair == kCurly && i < 15; i++) {
      const float angle = 3.4f * (static_cast<float>(i) / 14 - 0.5f);
      ball({86 * std::sin(angle), -28 - 82 * std::cos(angle)}, 30);
    }
  }

  void paint_body() {
    canvas_.fill(outline(points({0, 40, 42, 50, 40, 100, 50, 130, 0, 140})), shadow_);
    canvas_.fill(outline(points({0, 110, 34, 106, 80, 124, 130, 145, 150, 240, 0, 250})),
                 person_.clothes);
    if (person_.hair == kScarf) return;
    for (float side : {-1.0f, 1.0f}) {
      const Path ear = points({74, -10, 86, -20, 93, -8, 88, 14, 76, 20});
      canvas_.fill(shape(ear, side, kOutline), mix(skin_, shadow_, 0.4f));
      line(points({80, -6, 87, -8, 83, 10}), {3.5f, shadow_}, side, kOutline);
    }
  }

  void paint_head() {
    const Mask face = outline(head(0));
    canvas_.fill(face, skin_);
    const float light = chance_.between(-1, 1);  // from the left or from the right
    const float strength = chance_.between(0.2f, 0.6f);
    spot({-110 * light, 50}, 130, shadow_, strength, face);
    spot({-30 * light, 130}, 90, shadow_, 0.5f, face);
    spot({50 * light, -50}, 90, mix(skin_, kWhite, 0.5f), 0.6f * strength, face);
    const Color blush = mix(skin_, rgb(0xeb5c52), 0.4f);
    // Cheeks that rise or a nose that wrinkles fold the skin beside the mouth; so do years.
    const float fold = std::max({muscle_[kCorners], muscle_[kNose], 0.5f * person_.age - 0.1f});
    const float out = 5 * muscle_[kStretch];
    for (float side : {-1.0f, 1.0f}) {
      spot({side * 46, 28}, 30, blush, 0.5f, face);
      spot({side * person_.eye_distance, -16}, 34, shadow_, 0.3f, face);
      line(points({19, 24, 33 + out, 34, 42 + out, 50}), {3.5f, line_, 0.4f * unit(fold), .9f},
           side);
    }
    const float worry = std::max(0.45f * unit(muscle_[kInnerBrow]), 0.3f * person_.age - 0.1f);
    const float wide = 14 + 18 * unit(muscle_[kOuterBrow]);
    for (float y : {-68.0f, -78.0f})
      line(points({-wide, y + 2, 0, y, wide, y + 2}), {3, line_, worry, .9f});
  }

  void paint_nose() {
    const float tip = person_.nose_length, wing = person_.nose_width;
    const float up = 5 * muscle_[kNose], side = chance_.happens(0.5f) ? 1.0f : -1.0f;
    line(points({6, -12, 7, 5, wing, tip - 2}), {5, shadow_, 0.8f}, side, 8);
    line(points({-wing - 2, tip - 5 - up, -wing, tip + 3 - up, -5, tip + 2, 0, tip + 5.5f, 5,
                 tip + 2, wing, tip + 3 - up, wing + 2, tip - 5 - up}),
         {4.5f, line_, 0.9f}, 1, 12);
    for (float y : {-14.0f, -5.0f, 4.0f})
      line(points({-10, y + 3.5f, 0, y, 10, y + 3.5f}), {3.5f, line_, 0.8f * unit(muscle_[kNose])},
           1, 10);
    for (float x : {-4.5f, 4.5f})
      line(points({x, -42, 1.2f * x, -30}), {3.5f, line_, 0.8f * unit(muscle_[kFrown])}, 1, 5);
  }

  void paint_beard() {
    const Path skin = points({0, -150, 90, -140, 95, -20, 73, 2, 63, 34, 40, 44, 0, 36});
    canvas_.fill(subtract(outline(head(3)), shape(both_sides(skin))), person_.hair_color, 0.92f);
  }

  // The lips are heights over t, which is -1 at one corner of the mouth and 1 at the other.
  void paint_mouth() {
    const float jaw = std::max(muscle_[kJaw], 0.0f), smile = unit(muscle_[kCorners]);
    const float half = person_.mouth_width * (1 + 0.42f * muscle_[kStretch]);
    const float clenched = unit(muscle_[kTeeth] * (1 - smile)), sneer = 11 * muscle_[kSneer];
    const float above = 17 * jaw * (1 - smile), below = 34 * jaw - above * .5f;
    const float lip = person_.lips * (1 - 0.4f * unit(muscle_[kFrown]));
    Path inside, outside, seam;
    for (float edge : {-1.0f, 1.0f}) {  // the upper lip, then the lower one on the way back
      for (int i = -8; i <= 8; i++) {
        const float t = -edge * static_cast<float>(i) / 8, bump = 1 - t * t;
        const float rest = 58 + 3 * jaw + 24 * muscle_[kCorners] * (bump - .6f);
        const float parted = std::sqrt(1 - std::pow(std::abs(t), 2 + 3 * clenched));
        const float bow = 1 - .35f * std::exp(-30 * t * t);
        const float y = edge < 0 ? rest - above * parted - 1.3f * sneer * bump
                                 : rest + below * parted - .5f * sneer * bump;
        inside.push_back({half * t, y});
        outside.push_back({1.06f * half * t, y + (edge < 0 ? -bow : 1.25f) * lip * bump});
        if (edge < 0) seam.push_back({1.04f * half * t, y});
      }
    }
    canvas_.fill(shape(outside), mix(mix(skin_, rgb(0xc74045), 0.5f), kBlack, .1f));
    const Mask open = shape(inside);
    canvas_.fill(open, rgb(0x4d0f17));
    const float top = 58 - above - 1.1f * sneer + 6 * smile;
    if (muscle_[kTongue] < 0.3f) {
      const Path tongue = ellipse({0, 68 + .3f * below + 8 * smile}, .7f * half, 13);
      canvas_.fill(intersect(open, shape(tongue)), rgb(0xcc5961));
    }
    if (muscle_[kTeeth] > 0.2f || jaw > 0.8f) paint_teeth(open, half, top, above + below, clenched);
    if (muscle_[kTongue] >= 0.3f) {
      canvas_.fill(shape(points({-15, top + 14, 15, top + 14, 16, 80, 0, 90, -16, 80})),
                   rgb(0xed7378));
      line(points({0, top + 20, 0, 80}), {3, rgb(0xbf4552)});
    }
    line(seam, {3.5f, line_, 1, .5f});
  }

  void paint_teeth(const Mask& open, float half, float top, float gap, float clenched) {
    const float smile = unit(muscle_[kCorners]), jaw = muscle_[kJaw];
    const float end = top + 11 + (clenched > .3f ? 40 : 4) * jaw, corner = end - 14 * smile;
    const Path teeth =
        points({-half, top - 20, half, top - 20, half, corner, 0, end, -half, corner});
    const Mask shown = intersect(open, shape(teeth));
    canvas_.fill(shown, rgb(0xfaf7ed));
    if (clenched <= .3f) return;
    const float middle = top + .55f * gap + 6 * muscle_[kSneer];  // where the two rows meet
    const Path meet = points({-half, middle + 5, 0, middle, half, middle + 5});
    canvas_.fill(intersect(shown, trace(meet, {3, {}, 1, 0})), rgb(0x8c6b6b));
  }

  void paint_moustache(float side) {
    const float y = 43 - 10 * muscle_[kSneer], drop = 5 - 6 * muscle_[kCorners];
    line(points({0, y - 3, 14, y - 1, 30, y + 6 + drop}), {10, person_.hair_color}, side, 3);
  }

  void paint_eye(float side) {
    const float size = person_.eye_size, half = 17.5f * size, x = person_.eye_distance, y = -12;
    const float frown = unit(muscle_[kFrown] - std::max(muscle_[kInnerBrow], 0.0f));
    const float up = size * (10.5f + 7.5f * muscle_[kUpperLid] - 2 * frown);
    const float squinted = size * (7 + 2 * muscle_[kUpperLid] - 10 * muscle_[kSquint]);
    const float low = std::max(squinted, 1.5f - up);
    // The lid hangs with the brow: at the temple in grief, at the nose in anger.
    const float slope = std::clamp(.4f * (muscle_[kOuterBrow] - muscle_[kInnerBrow]), -.6f, .6f);
    Path upper, lower;
    for (int i = -6; i <= 6; i++) {  // t is -1 at the nose and 1 at the temple
      const float t = static_cast<float>(i) / 6, arch = std::sqrt(1 - t * t) * (1 - .3f * t * t);
      upper.push_back({x + half * t, y - t - up * arch * (1 + slope * t)});
      lower.push_back({x - half * t, y + t + low * arch});
    }
    Path eye = upper;
    eye.insert(eye.end(), lower.begin() + 1, lower.end() - 1);
    const Mask open = shape(eye, side);
    canvas_.fill(open, rgb(0xf7f5f2));
    const Point iris = person_.place({side * x, y - 2}, 0);
    const float radius = 9.8f * size * person_.scale;
    auto disc = [&](Point center, float r, Color color) {
      canvas_.fill(intersect(open, canvas_.cover(ellipse(center, r, r))), color);
    };
    disc(iris, radius, person_.iris);
    disc(iris, .55f * radius, kBlack);
    disc(iris - Point{.35f * radius, .4f * radius}, .32f * radius, kWhite);
    line(upper, {5.5f, mix(line_, kBlack, 0.7f), 1, .6f}, side);
    line(lower, {2.5f, line_, 0.7f, .6f}, side);
    const float bag = std::max(unit(muscle_[kSquint]), .6f * person_.age - .1f);
    line(points({x - 12, y + 13, x, y + 16, x + 13, y + 12}), {2.5f, line_, .4f * bag, .9f}, side);
  }

  void paint_brow(float side) {
    const float x = person_.eye_distance - 36, y = person_.brow_height;
    const float inner = y - 20 * muscle_[kInnerBrow], outer = y + 3 - 20 * muscle_[kOuterBrow];
    const Color color = mix(person_.hair_color, kBlack, skin_.r > .7f ? .35f : .65f);
    line(points({x + 13 - 6 * muscle_[kFrown], inner, x + 26, .6f * inner + .4f * outer - 4.5f,
                 x + 43, .3f * inner + .7f * outer - 5, x + 60, outer}),
         {person_.brow_width, color, 1, .6f}, side);
  }

  // Hair is the head, somewhat enlarged, less the face; a scarf closes below the chin.
  void paint_front_hair() {
    struct Style {
      float more;  // than the head
      Path face;   // the right half of what stays free
    };
    const float chin = 102 + 10 * muscle_[kJaw];
    const Style styles[kHairStyles] = {
        {0, {}},
        {6, points({0, -70, 50, -68, 66, -40, 72, 5, 120, 20, 120, 160, 0, 170})},
        {10, points({0, -62, 40, -60, 62, -40, 72, 10, 120, 25, 120, 160, 0, 170})},
        {10, points({0, -54, 45, -52, 66, -36, 70, 10, 120, 25, 120, 160, 0, 170})},
        {10, points({0, -80, 38, -62, 62, -20, 70, 50, 80, 100, 120, 115, 120, 160, 0, 170})},
        {8, points({0, -64, 50, -58, 68, -30, 74, 0, 120, 15, 120, 160, 0, 170})},
        {6, points({0, -76, 45, -66, 68, -30, 76, 0, 120, 15, 120, 160, 0, 170})},
        {14, points({0, -72, 46, -60, 66, -20, 66, 40, 42, 86, 0, chin})}};
    if (person_.hair == kBald) return;
    const Style& style = styles[person_.hair];
    const Color color = person_.hair == kScarf ? person_.clothes : person_.hair_color;
    const Mask face = shape(both_sides(style.face), 1, person_.hair == kScarf ? kOutline : 0);
    const Mask hair = subtract(outline(head(style.more)), face);
    canvas_.fill(hair, color);
    spot({chance_.between(-50, 50), -95}, 60, mix(color, kWhite, 0.18f), 0.8f, hair);
    if (person_.hair != kParted) return;
    const Path wave =
        points({35, -105, -10, -112, -60, -95, -74, -50, -50, -58, -10, -62, 20, -74});
    canvas_.fill(shape(wave, chance_.happens(0.5f) ? 1.0f : -1.0f, kOutline),
                 mix(color, kWhite, .06f));
  }

  void paint_glasses() {
    const Color frame = chance_.happens(0.6f) ? kBlack : mix(chance_.one_of(kClothes), kBlack, .4f);
    const float x = person_.eye_distance + 1, y = -11, corner = chance_.between(.7f, .95f);
    for (float side : {-1.0f, 1.0f}) {
      auto rim = [&](float w, float h) {
        const float a = corner * w, b = corner * h;
        return shape(points({x - w, y, x - a, y - b, x, y - h, x + a, y - b, x + w, y, x + a, y + b,
                             x, y + h, x - a, y + b}),
                     side, 4);
      };
      const Mask lens = rim(25, 21.5f);
      canvas_.fill(lens, kWhite, .10f);
      canvas_.fill(subtract(rim(28.5f, 25), lens), frame);
      line(points({x + 27, y - 4, 84, y - 8}), {4, frame, 1, 0}, side);
    }
    line(points({28 - x, y - 2, 0, y - 6, x - 28, y - 2}), {4, frame, 1, 0}, 1, 6);
  }

  // Lens, film and sensor: blur, contrast, colour cast, noise; sometimes a grey picture.
  void take_photograph() {
    if (chance_.happens(0.5f)) canvas_.blur(chance_.between(0, 0.7f));
    const float contrast = chance_.between(0.8f, 1.15f), warmth = chance_.between(-.05f, .05f);
    const float brightness = chance_.between(.42f, .58f);
    const float noise = std::max(chance_.between(-.015f, .025f), .0f);
    const float grey = chance_.happens(0.08f) ? 1.0f : chance_.between(0, .3f);
    for (Color& p : canvas_.pixels()) {
      const float light = .299f * p.r + .587f * p.g + .114f * p.b;
      const float shift = brightness + (noise > 0 ? noise * chance_.about_zero() : 0);
      p = mix(p, {light, light, light}, grey);
      p = {contrast * (p.r - .5f) + shift + warmth, contrast * (p.g - .5f) + shift,
           contrast * (p.b - .5f) + shift - warmth};
    }
  }

  Person person_;
  Muscles muscle_;
  Chance chance_;
  Canvas canvas_;
  Color skin_, shadow_, line_;
};

}  // namespace

Image draw_face(int expression, std::uint64_t seed) {
  check(expression >= 0 && expression < kExpressions, "draw_face: expression is ", expression,
        ", expected 0 (surprise) to 6 (neutral)");
  return Painter(expression, seed).paint();
}

}  // namespace chalk
