// What the benchmarks of single kernels share: they read a task a line, run it for some
// milliseconds, and answer with its time.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "autograd/cpu/parallel.h"

namespace chalk {

// The times of at least `runs` runs that take at least `milliseconds` together, in ms, the shortest
// first; one more before them warms up.
inline std::vector<double> sorted_times(const std::function<void()>& run, std::size_t runs,
                                        int milliseconds) {
  using Clock = std::chrono::steady_clock;
  run();
  std::vector<double> times;
  const auto start = Clock::now();
  while (times.size() < runs || Clock::now() - start < std::chrono::milliseconds(milliseconds)) {
    const auto begin = Clock::now();
    run();
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
  }
  std::sort(times.begin(), times.end());
  return times;
}

// Answers each task on standard input; `time_task` gets its first word and reads the others. The
// task `threads COUNT` sets the number of threads, and has no answer.
inline void answer_tasks(const std::function<double(const std::string&)>& time_task) {
  std::string task;
  while (std::cin >> task) {
    if (task == "threads") {
      int count = 0;
      std::cin >> count;
      cpu::set_num_threads(count);
    } else {
      std::cout << time_task(task) << std::endl;
    }
  }
}

}  // namespace chalk
