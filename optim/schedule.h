// Learning-rate schedules: functions of the step, for Optimizer::set_lr().
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>

#include "autograd/check.h"
#include "autograd/shape.h"

namespace chalk {

// From `peak` at step 0 down to `floor` at step `steps` along half a cosine (arXiv 1608.03983,
// equation 5, without restarts).
inline double cosine_schedule(Index step, Index steps, double peak, double floor = 0) {
  check(step >= 0, "cosine_schedule: step ", step, "; steps count from 0");
  const double done =
      steps > 0 ? std::min(1.0, static_cast<double>(step) / static_cast<double>(steps)) : 1.0;
  return floor + (peak - floor) * (1 + std::cos(std::numbers::pi * done)) / 2;
}

// Grows linearly to `peak` over the first `warmup` steps (step 0 already moves: peak / warmup),
// then follows the cosine over the remaining steps.
inline double warmup_cosine_schedule(Index step, Index warmup, Index steps, double peak,
                                     double floor = 0) {
  check(step >= 0 && warmup >= 0 && steps >= 0, "warmup_cosine_schedule: step ", step, ", warmup ",
        warmup, ", ", steps, " steps; expected 0 or more");
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  return cosine_schedule(step - warmup, steps - warmup, peak, floor);
}

}  // namespace chalk
