#include "examples/fer/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>

#include "autograd/check.h"
#include "data/files.h"

namespace chalk::fer {

std::string format(const char* pattern, ...) {
  std::va_list arguments, again;
  va_start(arguments, pattern);
  va_copy(again, arguments);
  std::string text(static_cast<std::size_t>(std::vsnprintf(nullptr, 0, pattern, arguments)), ' ');
  std::vsnprintf(text.data(), text.size() + 1, pattern, again);
  va_end(again);
  va_end(arguments);
  return text;
}

std::string format_time(double seconds) {
  const auto whole = static_cast<long>(seconds + 0.5);
  if (whole < 3600) return format("%ld:%02ld", whole / 60, whole % 60);
  return format("%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
}

double Stopwatch::seconds() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

double Stopwatch::lap() {
  const double elapsed = seconds();
  start_ = Clock::now();
  return elapsed;
}

// ---- the line on the screen ----

static constexpr double kSecondsBetweenLines = 30;     // where lines pile up
static constexpr double kSecondsBetweenUpdates = 0.1;  // where they are replaced
static constexpr std::size_t kBarWidth = 20;

static std::size_t terminal_width() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

ProgressLine::ProgressLine() : terminal_(isatty(STDOUT_FILENO)) {}

void ProgressLine::update(const std::string& left, Index done, Index total,
                          const std::string& right) {
  const double pause = terminal_ ? kSecondsBetweenUpdates : kSecondsBetweenLines;
  if (since_shown_.seconds() < pause) return;
  since_shown_.lap();
  std::string count(1, ' ');
  count += std::to_string(done) + "/" + std::to_string(total) + "  " + right;
  std::string line = left + count;
  if (terminal_) {  // the bar takes what room there is; a longer line could not be erased
    const std::size_t room = terminal_width() - 1;
    const std::size_t used = std::min(room, line.size() + 3);
    const std::size_t width = std::min(kBarWidth, room - used);
    const std::size_t full =
        width * static_cast<std::size_t>(done) / static_cast<std::size_t>(total);
    if (width > 0)
      line = left + " [" + std::string(full, '=') + std::string(width - full, ' ') + "]" + count;
    line.resize(std::min(line.size(), room));
  }
  clear();
  std::cout << line << (terminal_ ? "" : "\n") << std::flush;
  shown_ = terminal_;
}

void ProgressLine::clear() {
  if (shown_) std::cout << "\r\033[K" << std::flush;
  shown_ = false;
}

void ProgressLine::print(const std::string& text) {
  clear();
  std::cout << text << std::endl;
  since_shown_.lap();
}

// ---- CSV files ----

// The complete rows of a file after its header, as far as they count to `last`.
static std::vector<std::string> rows_until(const std::string& path, Index last) {
  const std::vector<std::uint8_t> bytes = read_file(path);
  std::vector<std::string> rows;
  for (auto begin = bytes.begin(), end = begin;
       (end = std::find(begin, bytes.end(), '\n')) != bytes.end(); begin = end + 1) {
    const std::string row(begin, end);
    if (begin != bytes.begin() && std::strtoll(row.c_str(), nullptr, 10) <= last)
      rows.push_back(row);
  }
  return rows;
}

CsvLog::CsvLog(const std::string& path, const std::string& header, Index last) : path_(path) {
  if (std::filesystem::exists(path)) rows_ = rows_until(path, last);
  std::string text = header + "\n";
  for (const std::string& row : rows_)
    text += row + "\n";
  write_file(path, text);
  file_ = std::fopen(path.c_str(), "a");
  check(file_ != nullptr, "cannot write ", path, ": ", std::strerror(errno));
}

CsvLog::~CsvLog() {
  std::fclose(file_);
}

void CsvLog::add(const std::string& row) {
  const bool written = std::fprintf(file_, "%s\n", row.c_str()) > 0 && std::fflush(file_) == 0;
  check(written, "cannot write ", path_, ": ", std::strerror(errno), "; make room on the disk");
  rows_.push_back(row);
}

std::vector<double> CsvLog::column(std::size_t number) const {
  std::vector<double> values;
  for (const std::string& row : rows_) {
    const char* field = row.c_str();
    for (std::size_t skipped = 0; skipped < number && field != nullptr; ++skipped) {
      field = std::strchr(field, ',');
      if (field != nullptr) ++field;
    }
    values.push_back(field != nullptr ? std::strtod(field, nullptr) : 0);
  }
  return values;
}

// ---- signals ----

static volatile std::sig_atomic_t stop_signal = 0;

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = [](int number) { stop_signal = number; };
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
  for (int number : {SIGINT, SIGTERM})
    sigaction(number, &action, nullptr);
  struct sigaction hangup {};
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);  // else nohup began this
}

bool stop_requested() {
  return stop_signal != 0;
}

}  // namespace chalk::fer
