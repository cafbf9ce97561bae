#include "examples/fer/draw.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "autograd/check.h"
#include "autograd/random.h"
#include "data/files.h"
#include "examples/fer/canvas.h"

namespace chalk {

const char* const kExpressionNames[kExpressions] = {"surprise", "fear",  "disgust", "happiness",
                                                    "sadness",  "anger", "neutral"};
namespace {

constexpr Index kSize = 100;
constexpr Index kRafDbTrainImages[kExpressions] = {1290, 281, 717, 4772, 1982, 705, 2524};

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
  kTongue,     // shown
  kMuscles
};
using Muscles = std::array<float, kMuscles>;

// Each expression in two forms; a face is somewhere near one of them.
//    brows: inner outer frown   lids: up squint   nose   mouth: corners stretch jaw sneer teeth
//    tongue
constexpr Muscles kForms[kExpressions][2] = {
    {{.9f, .9f, 0, 1, 0, 0, 0, -.5f, 1, 0, 0, 0}, {1, 1, 0, .8f, 0, 0, 0, -.75f, .6f, 0, 0, 0}},
    {{1, -.1f, .7f, .9f, 0, 0, -.4f, .4f, .4f, 0, 1, 0},
     {1, 0, .8f, 1, 0, 0, -.7f, .25f, .5f, 0, .5f, 0}},
    {{-.4f, -.2f, .5f, -.45f, .6f, 1, -.6f, -.1f, .1f, 1, .5f, 0},
     {-.5f, -.1f, .5f, -.5f, .7f, 1, -.5f, 0, .45f, .8f, 0, 1}},
    {{.3f, .35f, 0, 0, .7f, 0, 1, .4f, .6f, 0, .6f, 0},
     {.2f, .3f, 0, -.1f, .6f, 0, 1, .3f, 0, 0, 0, 0}},
    {{.9f, -.7f, .4f, -.4f, 0, 0, -.9f, -.2f, 0, 0, 0, 0},
     {1, -.6f, .5f, -.6f, 0, 0, -1, -.1f, .2f, 0, 0, 0}},
    {{-1, .4f, 1, .2f, .3f, .2f, -.5f, -.1f, 0, 0, 0, 0},
     {-1, .5f, 1, .3f, .3f, .4f, -.5f, .25f, .45f, .2f, 1, 0}},
    {{}, {}}};

// Random choices in words. Its own streams keep a person the same whatever the expression draws.
class Chance {
 public:
  Chance(std::uint64_t seed, std::uint64_t stream) : generator_{seed, stream << 32} {}

  float between(float low, float high) {
    return low + (high - low) * static_cast<float>(generator_.uniform());
  }
  bool happens(float probability) { return generator_.uniform() < probability; }
  // Mean 0, variance 1: the sum of three uniform numbers is close enough to a normal one.
  float about_zero() { return between(-1, 1) + between(-1, 1) + between(-1, 1); }
  template <size_t count>
  Color one_of(const Color (&colors)[count]) {
    return colors[static_cast<size_t>(generator_.uniform() * count)];
  }

 private:
  Generator generator_;
};

Muscles draw_muscles(int expression, Chance chance) {
  const bool second = chance.happens(0.45f);
  const float intensity = chance.between(0.65f, 1.1f);
  Muscles muscles = kForms[expression][second];
  for (float& muscle : muscles)
    muscle = intensity * muscle + 0.07f * chance.about_zero();
  for (int muscle : {kNose, kJaw, kSneer, kTeeth, kTongue})
    if (kForms[expression][second][muscle] == 0) muscles[muscle] = 0;
  return muscles;
}

constexpr Color kSkins[] = {{.98f, .85f, .76f}, {.96f, .79f, .67f}, {.90f, .70f, .55f},
                            {.80f, .59f, .44f}, {.65f, .45f, .32f}, {.50f, .34f, .25f},
                            {.42f, .28f, .21f}};
constexpr Color kHairs[] = {{.10f, .08f, .09f}, {.20f, .13f, .10f}, {.36f, .22f, .13f},
                            {.55f, .33f, .17f}, {.84f, .66f, .38f}, {.66f, .28f, .13f},
                            {.62f, .61f, .62f}, {.87f, .86f, .84f}};
constexpr Color kClothes[] = {{.85f, .32f, .28f}, {.22f, .42f, .69f}, {.96f, .75f, .27f},
                              {.25f, .55f, .45f}, {.93f, .93f, .90f}, {.24f, .25f, .32f},
                              {.58f, .40f, .65f}, {.93f, .55f, .42f}};
constexpr Color kBackgrounds[] = {{.72f, .85f, .91f}, {.95f, .84f, .68f}, {.78f, .87f, .74f},
                                  {.91f, .78f, .80f}, {.55f, .62f, .70f}, {.83f, .81f, .90f},
                                  {.36f, .42f, .50f}, {.93f, .91f, .86f}};
constexpr Color kIrises[] = {{.22f, .13f, .09f},
                             {.36f, .22f, .12f},
                             {.25f, .44f, .62f},
                             {.30f, .46f, .32f},
                             {.40f, .44f, .48f}};
constexpr Color kBlack = {.07f, .05f, .07f}, kWhite = {1, 1, 1};

enum Hair { kBald, kCropped, kParted, kFringe, kLong, kCurly, kBun, kScarf, kHairStyles };

// Who it is: nothing here knows the expression.
struct Person {
  explicit Person(Chance chance)
      : skin(mix(chance.one_of(kSkins), chance.one_of(kSkins), 0.25f)),
        hair_color(chance.one_of(kHairs)),
        clothes(chance.one_of(kClothes)),
        iris(chance.one_of(kIrises)),
        hair(static_cast<Hair>(chance.between(0.3f, kHairStyles))),
        jaw(chance.between(0.62f, 0.80f)),
        length(chance.between(0.96f, 1.08f)),
        eye_size(chance.between(0.9f, 1.12f)),
        eye_distance(chance.between(0.34f, 0.39f)),
        brow_width(chance.between(0.065f, 0.105f)),
        brow_height(chance.between(-0.03f, 0.03f)),
        nose_width(chance.between(0.10f, 0.15f)),
        nose_length(chance.between(0.20f, 0.28f)),
        mouth_width(chance.between(0.27f, 0.33f)),
        lips(chance.between(0.05f, 0.085f)),
        age(chance.between(0, 1)),
        glasses(chance.happens(0.22f)),
        beard(chance.happens(0.18f) && hair != kScarf && hair != kBun && hair != kLong),
        moustache(beard || (chance.happens(0.06f) && hair < kLong)) {}

  Color skin, hair_color, clothes, iris;
  Hair hair;
  float jaw, length, eye_size, eye_distance, brow_width, brow_height, nose_width, nose_length;
  float mouth_width, lips, age;
  bool glasses, beard, moustache;
};

// Where the head is. A face is drawn in units of its own, x right and y down with the point
// between the eyes near the origin, the crown at y = -1 and the chin at y = 1, and lies on a dome.
struct Pose {
  explicit Pose(Chance chance)
      : scale(chance.between(37, 42)),
        yaw(0.17f * chance.about_zero()),
        pitch(0.09f * chance.about_zero()),
        roll(0.10f * chance.about_zero()),
        center{50 + 2 * chance.about_zero(), 52 + 2 * chance.about_zero()} {}

  // `height` above the dome: 0 lies on the face, 0.25 is the tip of a nose, -1 is the outline.
  Point place(Point p, float height) const {
    const float dome = 1 - p.x * p.x / 0.8f - p.y * p.y / 1.4f;
    const float z = height < 0 ? 0 : 0.75f * std::sqrt(std::max(dome, 0.0f)) + height;
    const Point turned = {p.x * std::cos(yaw) + z * std::sin(yaw),
                          p.y * std::cos(pitch) + z * std::sin(pitch)};
    const float c = std::cos(roll), s = std::sin(roll);
    return center + scale * Point{c * turned.x - s * turned.y, s * turned.x + c * turned.y};
  }

  float scale, yaw, pitch, roll;
  Point center;
};

// Paints one face, from the back to the front.
class Painter {
 public:
  Painter(int expression, std::uint64_t seed)
      : person_(Chance(seed, 0)),
        pose_(Chance(seed, 1)),
        muscles_(draw_muscles(expression, Chance(seed, 2))),
        chance_(seed, 3),
        canvas_(kSize),
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
    if (person_.moustache) paint_moustache();
    for (float side : {-1.0f, 1.0f})
      paint_eye(side);
    paint_front_hair();
    for (float side : {-1.0f, 1.0f})
      paint_brow(side);
    if (person_.glasses) paint_glasses();
    take_photograph();
    return canvas_.image();
  }

 private:
  // A curve of the face on the canvas; side -1 mirrors it.
  Path place(const Path& points, bool closed, float side = 1, float height = 0) const {
    Path path = smooth(points, closed);
    for (Point& p : path)
      p = pose_.place({side * p.x, p.y * person_.length}, height);
    return path;
  }
  Mask shape(const Path& points, float side = 1, float height = 0) const {
    return canvas_.cover(place(points, true, side, height));
  }
  void line(const Path& points, float width, Color color, float opacity = 1, float taper = 0.8f,
            float side = 1, float height = 0) {
    canvas_.fill(stroke(place(points, false, side, height), width * pose_.scale, taper), color,
                 opacity);
  }
  void spot(Point p, float radius, Color color, float opacity, const Mask* inside) {
    canvas_.glow(pose_.place(p, 0), radius * pose_.scale, color, opacity, inside);
  }
  // A closed outline that is the same on both sides, from its right half, top to bottom.
  static Path both_sides(const Path& right) {
    Path path = right;
    for (auto p = right.rbegin(); p != right.rend(); ++p)
      if (p->x > 0) path.push_back({-p->x, p->y});
    return path;
  }
  // The outline of the head, `more` further out; the jaw drops with the mouth.
  Path head(float more) const {
    const float chin = 1 + 0.10f * muscles_[kJaw] + more, jaw = person_.jaw + more;
    return both_sides({{0, -1 - more},
                       {.50f + more, -.86f - more},
                       {.77f + more, -.42f},
                       {.79f + more, .02f},
                       {jaw, .48f},
                       {.64f * jaw, chin - .16f},
                       {.24f, chin - .01f},
                       {0, chin}});
  }

  void paint_background();
  void paint_back_hair();
  void paint_body();
  void paint_head();
  void paint_nose();
  void paint_beard();
  void paint_mouth();
  void paint_moustache();
  void paint_eye(float side);
  void paint_front_hair();
  void paint_brow(float side);
  void paint_glasses();
  void take_photograph();

  Person person_;
  Pose pose_;
  Muscles muscles_;
  Chance chance_;
  Canvas canvas_;
  Color skin_, shadow_, line_;
};

void Painter::paint_background() {
  const Color a = chance_.one_of(kBackgrounds), b = chance_.one_of(kBackgrounds);
  const float slope_x = chance_.between(-1, 1) / kSize, slope_y = chance_.between(-1, 1) / kSize;
  for (Index i = 0; i < kSize * kSize; i++) {
    const float x = float(i % kSize - 50) * slope_x, y = float(i / kSize - 50) * slope_y;
    canvas_.pixels()[i] = mix(a, b, std::clamp(0.5f + x + y, 0.0f, 1.0f));
  }
  for (int i = 0; i < 5; i++) {
    const Point center = {chance_.between(0, 100), chance_.between(0, 100)};
    canvas_.glow(center, chance_.between(10, 40), chance_.one_of(kBackgrounds), 0.6f);
  }
}

void Painter::paint_back_hair() {
  const Color dark = mix(person_.hair_color, kBlack, 0.35f);
  if (person_.hair == kLong) {
    canvas_.fill(shape(both_sides({{0, -1.14f},
                                   {.62f, -.98f},
                                   {.96f, -.4f},
                                   {1.0f, .3f},
                                   {1.04f, .9f},
                                   {.9f, 1.3f},
                                   {0, 1.35f}}),
                       1, -1),
                 dark);
  } else if (person_.hair == kCurly) {
    for (int i = 0; i < 15; i++) {
      const float angle = 3.4f * (i / 14.0f - 0.5f);
      const Point at = {.86f * std::sin(angle), -.28f - .82f * std::cos(angle)};
      canvas_.fill(ellipse(pose_.place(at, -1), .3f * pose_.scale, .3f * pose_.scale), dark);
    }
  } else if (person_.hair == kBun) {
    const float radius = .36f * pose_.scale;
    canvas_.fill(ellipse(pose_.place({0, -1.2f}, -1), radius, .85f * radius), dark);
  } else if (person_.hair == kScarf) {
    canvas_.fill(shape(both_sides({{0, -1.16f},
                                   {.62f, -1.0f},
                                   {.95f, -.45f},
                                   {.98f, .2f},
                                   {.86f, .8f},
                                   {1.0f, 1.4f},
                                   {0, 1.5f}}),
                       1, -1),
                 mix(person_.clothes, kBlack, 0.25f));
  }
}

void Painter::paint_body() {
  const Path shoulders =
      both_sides({{0, 1.10f}, {.34f, 1.06f}, {.8f, 1.24f}, {1.3f, 1.45f}, {1.5f, 2.4f}, {0, 2.5f}});
  canvas_.fill(
      shape(both_sides({{0, .4f}, {.42f, .5f}, {.40f, 1.0f}, {.5f, 1.3f}, {0, 1.4f}}), 1, -1),
      shadow_);
  canvas_.fill(shape(shoulders, 1, -1), person_.clothes);
  if (person_.hair == kScarf) return;
  for (float side : {-1.0f, 1.0f}) {
    const Path ear = {{.74f, -.1f}, {.86f, -.2f}, {.93f, -.08f}, {.88f, .14f}, {.76f, .2f}};
    canvas_.fill(shape(ear, side, -1), mix(skin_, shadow_, 0.4f));
    line({{.80f, -.06f}, {.87f, -.08f}, {.83f, .1f}}, .035f, shadow_, 1, .6f, side, -1);
  }
}

void Painter::paint_head() {
  const Mask face = shape(head(0), 1, -1);
  canvas_.fill(face, skin_);
  const float light = chance_.between(-1, 1);  // from the left or from the right
  const float strength = chance_.between(0.2f, 0.6f);
  spot({-1.1f * light, .5f}, 1.3f, shadow_, strength, &face);
  spot({-.3f * light, 1.3f}, .9f, shadow_, 0.5f, &face);
  spot({.5f * light, -.5f}, .9f, mix(skin_, kWhite, 0.5f), 0.6f * strength, &face);
  const Color blush = mix(skin_, {.92f, .36f, .32f}, 0.4f);
  for (float side : {-1.0f, 1.0f}) {
    spot({side * .46f, .28f}, .30f, blush, 0.5f, &face);
    spot({side * person_.eye_distance, -.16f}, .34f, shadow_, 0.3f, &face);
    // Cheeks that rise or a nose that wrinkles fold the skin beside the mouth; so do years.
    const float fold = std::max({muscles_[kCorners], muscles_[kNose], 0.5f * person_.age - 0.1f});
    const float out = .05f * muscles_[kStretch];
    line({{.17f, .24f}, {.29f + out, .36f}, {.36f + out, .54f}}, .035f, line_,
         std::clamp(0.5f * fold, 0.0f, 0.5f), .9f, side);
  }
  const float raised = std::clamp(muscles_[kInnerBrow], 0.0f, 1.0f);
  const float wide = .14f + .18f * std::clamp(muscles_[kOuterBrow], 0.0f, 1.0f);
  for (float y : {-.68f, -.78f})
    line({{-wide, y + .02f}, {0, y}, {wide, y + .02f}}, .03f, line_,
         std::max(0.45f * raised, 0.3f * person_.age - 0.1f), .9f);
}

void Painter::paint_nose() {
  const float tip = person_.nose_length, w = person_.nose_width;
  const float side = chance_.happens(0.5f) ? 1.0f : -1.0f;
  const float up = .05f * muscles_[kNose];
  line({{.06f, -.12f}, {.07f, .05f}, {w, tip - .02f}}, .05f, shadow_, 0.8f, .8f, side, .08f);
  line({{-w - .02f, tip - .05f - up},
        {-w, tip + .03f - up},
        {-.05f, tip + .02f},
        {0, tip + .055f},
        {.05f, tip + .02f},
        {w, tip + .03f - up},
        {w + .02f, tip - .05f - up}},
       .045f, line_, 0.9f, .6f, 1, .12f);
  const float wrinkle = std::clamp(muscles_[kNose], 0.0f, 1.0f);
  for (float y : {-.14f, -.05f, .04f})
    line({{-.10f, y + .035f}, {0, y}, {.10f, y + .035f}}, .035f, line_, 0.8f * wrinkle, .8f, 1,
         .1f);
  const float frown = std::clamp(muscles_[kFrown], 0.0f, 1.0f);
  for (float x : {-.045f, .045f})
    line({{x, -.42f}, {1.2f * x, -.30f}}, .035f, line_, 0.8f * frown, .7f, 1, .05f);
}

void Painter::paint_beard() {
  const Mask face = shape(head(.03f), 1, -1);
  const Path hole = both_sides({{0, -1.5f},
                                {.9f, -1.4f},
                                {.95f, -.2f},
                                {.70f, .02f},
                                {.58f, .32f},
                                {.38f, .42f},
                                {0, .36f}});
  canvas_.fill(subtract(face, shape(hole)), person_.hair_color, 0.92f);
}

void Painter::paint_mouth() {
  const Muscles& m = muscles_;
  const float jaw = std::clamp(m[kJaw], 0.0f, 1.2f), smile = std::max(m[kCorners], 0.0f);
  const float half = person_.mouth_width * (1 + 0.42f * m[kStretch]);
  const float square = 2 + 3 * std::clamp(m[kTeeth] * (1 - smile), 0.0f, 1.0f);
  const float above = .17f * jaw * (1 - std::min(smile, 1.0f)), below = .34f * jaw - above * .5f;
  const float lip = person_.lips * (1 - 0.4f * std::clamp(m[kFrown], 0.0f, 1.0f));
  // The lips as heights over t, -1 at the left corner and 1 at the right one: where they meet, how
  // far they part, and how thick they are.
  Path inside, outside, seam;
  for (float edge : {-1.0f, 1.0f}) {
    for (int i = -8; i <= 8; i++) {
      const float t = edge * i / 8.0f, x = half * t;
      const float rest = .58f + .03f * jaw - .20f * m[kCorners] * (t * t - .4f);
      const float parted = std::sqrt(1 - std::pow(std::abs(t), square));
      const float sneer = .11f * m[kSneer] * (1 - t * t);
      const float y =
          edge < 0 ? rest - above * parted - 1.3f * sneer : rest + below * parted - .5f * sneer;
      const float bow = 1 - .35f * std::exp(-t * t * 30);
      const float thick = edge < 0 ? -lip * bow : 1.25f * lip;
      inside.push_back({x, y});
      outside.push_back({1.06f * x, y + thick * (1 - t * t)});
      if (edge < 0) seam.push_back({1.04f * x, y});
    }
  }
  const Color lips = mix(mix(skin_, {.78f, .25f, .27f}, 0.5f), kBlack, .1f);
  canvas_.fill(shape(outside), lips);
  const Mask open = shape(inside);
  canvas_.fill(open, {.30f, .06f, .09f});
  const float top = .58f - above - .12f * m[kSneer] + .06f * smile;
  if (m[kTongue] > 0.3f) {
    canvas_.fill(
        shape({{-.15f, top + .14f}, {.15f, top + .14f}, {.16f, .80f}, {0, .90f}, {-.16f, .80f}}),
        {.93f, .45f, .47f});
    line({{0, top + .2f}, {0, .8f}}, .03f, {.75f, .27f, .32f});
  } else {
    const Path tongue = ellipse({0, .68f + .3f * below + .08f * smile}, .7f * half, .13f);
    canvas_.fill(intersect(open, shape(tongue)), {.80f, .35f, .38f});
  }
  if (m[kTeeth] > 0.2f || jaw > 0.8f) {
    const float height = .11f + .4f * jaw * (square > 3 ? 1 : .1f);
    const Path teeth = {{-half, top - .2f},
                        {half, top - .2f},
                        {half, top + height - .14f * smile},
                        {0, top + height},
                        {-half, top + height - .14f * smile}};
    const Mask shown = intersect(open, shape(teeth));
    canvas_.fill(shown, {.98f, .97f, .93f});
    if (square > 3) {  // both rows, clenched
      const float middle = top + .55f * (above + below) + .06f * m[kSneer];
      const Path seam_of_teeth = {{-half, middle + .05f}, {0, middle}, {half, middle + .05f}};
      const Path brush = stroke(place(seam_of_teeth, false), .03f * pose_.scale, 0);
      canvas_.fill(intersect(shown, canvas_.cover(brush)), {.55f, .42f, .42f});
    }
  }
  canvas_.fill(stroke(place(seam, false), .035f * pose_.scale, .5f), line_);
}

void Painter::paint_moustache() {
  const float y = .46f - .10f * muscles_[kSneer];
  const float drop = .05f - .06f * muscles_[kCorners];
  for (float side : {-1.0f, 1.0f})
    line({{.0f, y - .03f}, {.14f, y - .01f}, {.30f, y + .06f + drop}}, .13f, person_.hair_color, 1,
         .7f, side, .03f);
}

void Painter::paint_eye(float side) {
  const Muscles& m = muscles_;
  const float size = person_.eye_size, half = .175f * size, x0 = person_.eye_distance, y0 = -.12f;
  const float frown = std::clamp(m[kFrown] - std::max(m[kInnerBrow], 0.0f), 0.0f, 1.0f);
  const float up = size * (.105f + .075f * m[kUpperLid] - .02f * frown);
  const float low = size * (.07f + .02f * m[kUpperLid] - .10f * m[kSquint]);
  const float slope = std::clamp(.4f * (m[kOuterBrow] - m[kInnerBrow]), -.6f, .6f);
  Path upper, lower;
  for (int i = -6; i <= 6; i++) {  // t is -1 at the nose and 1 at the temple
    const float t = i / 6.0f, arch = std::sqrt(1 - t * t) * (1 - .3f * t * t);
    upper.push_back({x0 + half * t, y0 - .01f * t - up * arch * (1 + slope * t)});
    lower.push_back({x0 - half * t, y0 + .01f * t + std::max(low, .015f - up) * arch});
  }
  Path eye = upper;
  eye.insert(eye.end(), lower.begin() + 1, lower.end() - 1);
  const Mask open = shape(eye, side);
  canvas_.fill(open, {.97f, .96f, .95f});
  const Point gaze = {.0f, -.02f};
  const Point iris = pose_.place({side * x0 + gaze.x, y0 + gaze.y}, 0);
  const float radius = .098f * size * pose_.scale;
  auto disc = [&](Point center, float r, Color color) {
    canvas_.fill(intersect(open, canvas_.cover(ellipse(center, r, r))), color);
  };
  disc(iris, radius, person_.iris);
  disc(iris, .55f * radius, kBlack);
  disc(iris + Point{-.35f * radius, -.4f * radius}, .32f * radius, kWhite);
  const Color lash = mix(line_, kBlack, 0.7f);
  line(upper, .055f, lash, 1, .6f, side);
  line(lower, .025f, line_, 0.7f, .6f, side);
  const float bag = std::max(std::clamp(m[kSquint], 0.0f, 1.0f), .6f * person_.age - .1f);
  line({{x0 - .12f, y0 + .13f}, {x0, y0 + .16f}, {x0 + .13f, y0 + .12f}}, .025f, line_, .4f * bag,
       .9f, side);
}

void Painter::paint_brow(float side) {
  const Muscles& m = muscles_;
  const float x = person_.eye_distance - .36f, y = -.40f + person_.brow_height;
  const float inner = y - .17f * m[kInnerBrow], outer = y + .03f - .17f * m[kOuterBrow];
  const float in = .13f - .06f * m[kFrown];
  const Color color = mix(person_.hair_color, kBlack, skin_.r > .7f ? .35f : .65f);
  line({{x + in, inner},
        {x + .26f, .6f * inner + .4f * outer - .045f},
        {x + .43f, .3f * inner + .7f * outer - .05f},
        {x + .60f, outer}},
       person_.brow_width, color, 1, .6f, side);
}

void Painter::paint_front_hair() {
  const Color color = person_.hair == kScarf ? person_.clothes : person_.hair_color;
  const Color shine = mix(color, kWhite, 0.18f);
  // The hairline: everything of the enlarged head above it is hair.
  Path hole;
  float more = .06f;
  switch (person_.hair) {
    case kCropped:
      hole = {{0, -.70f}, {.5f, -.68f}, {.66f, -.4f}, {.72f, .05f}};
      break;
    case kParted:
      hole = {{0, -.62f}, {.4f, -.6f}, {.62f, -.4f}, {.72f, .1f}};
      more = .1f;
      break;
    case kFringe:
      hole = {{0, -.54f}, {.45f, -.52f}, {.66f, -.36f}, {.7f, .1f}};
      more = .1f;
      break;
    case kLong:
      hole = {{0, -.80f}, {.38f, -.62f}, {.62f, -.2f}, {.70f, .5f}, {.8f, 1}};
      more = .1f;
      break;
    case kCurly:
      hole = {{0, -.64f}, {.5f, -.58f}, {.68f, -.3f}, {.74f, .0f}};
      more = .08f;
      break;
    case kBun:
      hole = {{0, -.76f}, {.45f, -.66f}, {.68f, -.3f}, {.76f, .0f}};
      break;
    case kScarf:
      hole = {{0, -.72f}, {.46f, -.6f}, {.66f, -.2f}, {.66f, .4f}};
      more = .14f;
      break;
    default:
      return;
  }
  const bool scarf = person_.hair == kScarf;
  hole.push_back(scarf ? Point{.42f, .86f} : Point{1.2f, hole.back().y + .15f});
  hole.push_back(scarf ? Point{0, 1.02f + .1f * muscles_[kJaw]} : Point{1.2f, 1.6f});
  if (!scarf) hole.push_back({0, 1.7f});
  const Mask hair = subtract(shape(head(more), 1, -1), shape(both_sides(hole), 1, scarf ? -1 : 0));
  canvas_.fill(hair, color);
  spot({chance_.between(-.5f, .5f), -.95f}, .6f, shine, 0.8f, &hair);
  if (person_.hair != kParted) return;
  const float side = chance_.happens(0.5f) ? 1.0f : -1.0f;
  canvas_.fill(shape({{.35f, -1.05f},
                      {-.1f, -1.12f},
                      {-.6f, -.95f},
                      {-.74f, -.5f},
                      {-.5f, -.58f},
                      {-.1f, -.62f},
                      {.2f, -.74f}},
                     side, -1),
               mix(color, kWhite, .06f));
}

void Painter::paint_glasses() {
  const Color frame = chance_.happens(0.6f) ? kBlack : mix(chance_.one_of(kClothes), kBlack, .4f);
  const float x = person_.eye_distance + .01f, w = .27f, h = .235f, y = -.11f;
  const float corner = chance_.between(.7f, .95f);
  for (float side : {-1.0f, 1.0f}) {
    auto rim = [&](float r) {
      return shape({{x - r * w, y},
                    {x - r * corner * w, y - r * corner * h},
                    {x, y - r * h},
                    {x + r * corner * w, y - r * corner * h},
                    {x + r * w, y},
                    {x + r * corner * w, y + r * corner * h},
                    {x, y + r * h},
                    {x - r * corner * w, y + r * corner * h}},
                   side, .04f);
    };
    const Mask outer = rim(1.0f), inner = rim(.86f);
    canvas_.fill(inner, kWhite, .10f);
    canvas_.fill(subtract(outer, inner), frame);
    line({{x + w - .02f, y - .04f}, {.84f, y - .08f}}, .04f, frame, 1, 0, side);
  }
  line({{x - w + .01f - 2 * (x - w), y - .02f}, {0, y - .06f}, {x - w, y - .02f}}, .04f, frame, 1,
       0, 1, .06f);
}

// Light, lens and sensor: colour cast, contrast, blur, noise; sometimes a grey picture.
void Painter::take_photograph() {
  if (chance_.happens(0.5f)) canvas_.blur(chance_.between(0, 0.7f));
  const float contrast = chance_.between(0.8f, 1.15f), brightness = chance_.between(-.08f, .08f);
  const float noise = std::max(chance_.between(-.015f, .025f), .0f);
  const float grey = chance_.happens(0.12f) ? 1.0f : chance_.between(0, .3f);
  const float warmth = chance_.between(-.05f, .05f);
  for (Color& p : canvas_.pixels()) {
    const float luminance = .299f * p.r + .587f * p.g + .114f * p.b;
    const float shift = .5f + brightness + (noise > 0 ? noise * chance_.about_zero() : 0);
    p = mix(p, {luminance, luminance, luminance}, grey);
    p = {contrast * (p.r - .5f) + shift + warmth, contrast * (p.g - .5f) + shift,
         contrast * (p.b - .5f) + shift - warmth};
  }
}

}  // namespace

Image draw_face(int expression, std::uint64_t seed) {
  check(expression >= 0 && expression < kExpressions, "draw_face: expression is ", expression,
        ", expected 0 (surprise) to 6 (neutral)");
  return Painter(expression, seed).paint();
}

std::vector<int> draw_labels(Index count) {
  Index total = 0;
  for (Index images : kRafDbTrainImages)
    total += images;
  std::vector<int> labels;
  std::array<Index, kExpressions> given = {};
  while (static_cast<Index>(labels.size()) < count) {  // next comes the label that is owed most
    int next = 0;
    auto owed = [&](int k) {
      return kRafDbTrainImages[k] * static_cast<Index>(labels.size() + 1) - given[k] * total;
    };
    for (int k = 1; k < kExpressions; k++)
      if (owed(k) > owed(next)) next = k;
    labels.push_back(next);
    given[next]++;
  }
  return labels;
}

static std::uint64_t image_seed(std::uint64_t seed, bool test, Index number) {
  const auto word = philox(seed, static_cast<std::uint64_t>(number) * 2 + test);
  return std::uint64_t{word[0]} << 32 | word[1];
}

static void draw_split(const std::string& directory, bool test, Index count, std::uint64_t seed) {
  const std::string split = test ? "test" : "train";
  const std::vector<int> labels = draw_labels(count);
  std::vector<std::string> names;
  std::string csv = "image,label\n";
  for (Index i = 0; i < count; i++) {
    const std::string number = std::to_string(i + 1);
    const size_t zeros = number.size() < 5 ? 5 - number.size() : 0;
    names.push_back(split + "_" + std::string(zeros, '0') + number + "_aligned.jpg");
    csv += names.back() + "," + std::to_string(labels[i] + 1) + "\n";
  }
  for (int label = 1; label <= kExpressions; label++)
    std::filesystem::create_directories(directory + "/DATASET/" + split + "/" +
                                        std::to_string(label));
  write_file(directory + "/" + split + "_labels.csv", csv);
  std::string error;  // an exception must not leave the parallel loop
#pragma omp parallel for schedule(dynamic, 8)
  for (Index i = 0; i < count; i++) {
    try {
      const std::string folder =
          directory + "/DATASET/" + split + "/" + std::to_string(labels[i] + 1);
      write_jpeg(folder + "/" + names[i], draw_face(labels[i], image_seed(seed, test, i)), 92);
    } catch (const std::exception& failure) {
#pragma omp critical
      error = failure.what();
    }
  }
  check(error.empty(), error);
}

void draw_dataset(const DrawOptions& options) {
  namespace fs = std::filesystem;
  const std::string unfinished = options.directory + "." + std::to_string(getpid()) + ".tmp";
  check(options.train_images > 0 && options.test_images > 0, "draw_dataset: ", options.train_images,
        " train and ", options.test_images, " test images, expected at least 1 of each");
  check(!fs::exists(options.directory), "draw_dataset: ", options.directory,
        " exists already; remove it or name another folder");
  try {
    fs::create_directories(unfinished);
    draw_split(unfinished, false, options.train_images, options.seed);
    draw_split(unfinished, true, options.test_images, options.seed);
    fs::rename(unfinished, options.directory);
  } catch (const std::exception& error) {
    std::error_code ignored;
    fs::remove_all(unfinished, ignored);
    fail("draw_dataset: cannot draw the faces in ", options.directory, ": ", error.what());
  }
}

Image contact_sheet(Index columns, std::uint64_t seed) {
  const Index width = columns * kSize, height = kExpressions * kSize;
  Image sheet{height, width, std::vector<std::uint8_t>(height * width * 3)};
  for (Index row = 0; row < kExpressions; row++) {
    for (Index column = 0; column < columns; column++) {
      const Image face = draw_face(static_cast<int>(row), image_seed(seed, false, column));
      for (Index y = 0; y < kSize; y++)
        std::copy_n(&face.pixels[y * kSize * 3], kSize * 3,
                    &sheet.pixels[((row * kSize + y) * width + column * kSize) * 3]);
    }
  }
  return sheet;
}

}  // namespace chalk
