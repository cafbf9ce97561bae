// What a run tells while it goes: one line on the screen, rows in CSV files; and how it is asked to
// stop.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "autograd/shape.h"

namespace chalk::fer {

// printf into a string: format("%6.2f %%", 78.16) is " 78.16 %".
[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...);

// 75 is "1:15", 7323 is "2:02:03".
std::string format_time(double seconds);

// Measures time from its making on.
class Stopwatch {
 public:
  double seconds() const;  // since it was made or lap() was last called
  double lap();            // the same, and starts again

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

// A line on standard output that is replaced by the next one. Where that is no terminal, one in a
// while is printed instead, so that a log file stays readable: plain ASCII, no escape codes.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // `done` of `total` as a bar between the two texts.
  void update(const std::string& left, Index done, Index total, const std::string& right);

  // Removes the line; prints `text`, to stay, in its place.
  void clear();
  void print(const std::string& text);

 private:
  bool terminal_;
  bool shown_ = false;
  Stopwatch since_shown_;
};

// A CSV file whose first column counts up (steps, epochs) and whose rows are on the disk, or at
// least with the system, as soon as add() returns: a killed program loses none.
class CsvLog {
 public:
  // Creates the file with this header. If it is there already, keeps its rows whose first value is
  // at most `last`, and cuts off what a killed run wrote after that.
  CsvLog(const std::string& path, const std::string& header, Index last);
  ~CsvLog();
  CsvLog(const CsvLog&) = delete;
  CsvLog& operator=(const CsvLog&) = delete;

  // Fails when the row cannot be written, for instance because the disk is full.
  void add(const std::string& row);

  // The values of one column, rows from the past included.
  std::vector<double> column(std::size_t number) const;

 private:
  std::string path_;
  std::vector<std::string> rows_;
  std::FILE* file_;
};

// From now on Ctrl-C, SIGTERM and a terminal that closes only make stop_requested() true; a second
// signal ends the program.
void catch_stop_signals();
bool stop_requested();

}  // namespace chalk::fer
