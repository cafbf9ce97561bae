// Scalar: a number that remembers how it was computed. Reverse-mode differentiation once more, one
// number at a time and in float64: the judge of the tensor engine, with which it shares nothing.
//
//   Tape tape;
//   Scalar x = tape.variable(3), y = x * x + x;
//   tape.backward({y}, {1});                     // tape.gradient(x) is now 7
//
// How far rounding may lead is measured, not guessed: on a tape with noise u every result, of the
// way back too, is multiplied by a random number within 1 - u .. 1 + u, as arithmetic with so few
// digits would do (Monte Carlo arithmetic: Parker, UCLA CSD-970002, 1997).
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace chalk::testing {

class Tape;

class Scalar {
 public:
  Scalar(double value = 0) : value(value) {}  // a constant

  double value;

 private:
  friend class Tape;
  Scalar(double value, std::size_t step) : value(value), step_(step) {}

  std::size_t step_ = 0;  // of the tape that computed it; 0: a constant
};

using Scalars = std::vector<Scalar>;

// Every operation since it was made, in order. The youngest tape records; one at a time.
class Tape {
 public:
  // `seed` chooses the noise.
  explicit Tape(double noise = 0, std::uint64_t seed = 0) : noise_(noise), random_(seed) {
    current = this;
  }
  ~Tape() { current = nullptr; }
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  Scalar variable(double value) {
    steps_.push_back({});
    return {value, steps_.size() - 1};
  }

  // A result, with its derivatives by the operands a and b.
  static Scalar record(double value, const Scalar& a, double da, const Scalar& b = 0,
                       double db = 0) {
    if (a.step_ == 0 && b.step_ == 0) return value;
    current->steps_.push_back({a.step_, b.step_, da, db});
    return {value, current->steps_.size() - 1};
  }

  // The value as this tape rounds it.
  static double round(double value) { return current->rounded(value); }

  // From the gradients of some results to those of all variables.
  void backward(const Scalars& results, const std::vector<double>& gradients) {
    gradients_.assign(steps_.size(), 0);
    for (std::size_t i = 0; i < results.size(); ++i)
      add(results[i].step_, gradients[i]);
    for (std::size_t i = steps_.size(); i-- > 1;) {
      const Step& step = steps_[i];
      add(step.a, times(gradients_[i], step.da));
      add(step.b, times(gradients_[i], step.db));
    }
  }

  double gradient(const Scalar& variable) const { return gradients_[variable.step_]; }

 private:
  struct Step {
    std::size_t a = 0, b = 0;
    double da = 0, db = 0;
  };

  double rounded(double value) {
    if (noise_ == 0) return value;
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX
    return value * (1 + noise_ * (static_cast<double>(random_ >> 11) * 0x1p-52 - 1));
  }

  // What needs no rounding gets none.
  double times(double gradient, double factor) {
    return factor == 1 || factor == -1 ? gradient * factor : rounded(gradient * factor);
  }
  void add(std::size_t step, double gradient) {
    double& sum = gradients_[step];
    if (step != 0) sum = sum == 0 || gradient == 0 ? sum + gradient : rounded(sum + gradient);
  }

  inline static Tape* current = nullptr;
  double noise_;
  std::uint64_t random_;
  std::vector<Step> steps_{1};
  std::vector<double> gradients_;
};

inline Scalar operator+(const Scalar& a, const Scalar& b) {
  return Tape::record(Tape::round(a.value + b.value), a, 1, b, 1);
}
inline Scalar operator-(const Scalar& a, const Scalar& b) {
  return Tape::record(Tape::round(a.value - b.value), a, 1, b, -1);
}
inline Scalar operator*(const Scalar& a, const Scalar& b) {
  return Tape::record(Tape::round(a.value * b.value), a, b.value, b, a.value);
}
inline Scalar operator/(const Scalar& a, const Scalar& b) {
  const double y = Tape::round(a.value / b.value);
  return Tape::record(y, a, 1 / b.value, b, -y / b.value);
}
inline Scalar exp(const Scalar& x) {
  const double y = Tape::round(std::exp(x.value));
  return Tape::record(y, x, y);
}
inline Scalar log(const Scalar& x) {
  return Tape::record(Tape::round(std::log(x.value)), x, 1 / x.value);
}
inline Scalar sqrt(const Scalar& x) {
  const double y = Tape::round(std::sqrt(x.value));
  return Tape::record(y, x, 0.5 / y);
}
inline Scalar tanh(const Scalar& x) {
  const double y = Tape::round(std::tanh(x.value));
  return Tape::record(y, x, 1 - y * y);
}
inline Scalar sigmoid(const Scalar& x) {
  const double y = Tape::round(1 / (1 + std::exp(-x.value)));
  return Tape::record(y, x, y * (1 - y));
}

// The first of equals, which also gets the gradient; relu's is 0 at 0.
inline Scalar max(const Scalar& a, const Scalar& b) {
  return b.value > a.value ? b : a;
}
inline Scalar relu(const Scalar& x) {
  return max(0, x);
}

}  // namespace chalk::testing
