// Whole files in and out of memory, so that a crash or a full disk never leaves half a file.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace chalk {

// A regular file, read from its beginning. Fails with the path and the system's reason.
class FileReader {
 public:
  explicit FileReader(const std::string& path);
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  std::uint64_t size() const { return size_; }  // 0 for files that the system makes up

  // Fills `bytes` with the next of the file, and returns how many there were.
  std::size_t read(std::span<std::uint8_t> bytes);

 private:
  std::string path_;
  std::uint64_t size_;
  int descriptor_;
};

// What is read as a whole may have this many bytes.
inline constexpr std::uint64_t kMaxFileBytes = (std::uint64_t{1} << 31) - 1;

// All bytes of a regular file.
std::vector<std::uint8_t> read_file(const std::string& path);

// Replaces the file as one step: writes `path`.tmp, waits until it is on the disk, renames it to
// `path`. Readers see the old content or the new, never a mixture. On failure (disk full, no such
// folder, no permission) the old file stays, `path`.tmp is removed, and the error names the reason.
// A device or a pipe, such as /dev/stdout, is written to instead.
void write_file(const std::string& path, std::span<const std::uint8_t> bytes);
void write_file(const std::string& path, std::string_view text);

// The same, of bytes that lie in pieces: one after the other.
void write_file(const std::string& path, std::span<const std::span<const std::uint8_t>> pieces);

// Creates a folder with what `fill` writes into the one it is given, as one step: that one is
// called <folder>.<process>.tmp until all of it is written. Fails, leaving nothing, if there is
// something of this name already (an empty folder may be) or it cannot be written. Removes what
// earlier calls left unfinished because their process was killed.
void write_folder(const std::string& folder, const std::function<void(const std::string&)>& fill);

// Keeps a file for this process alone until it is destroyed or the process ends, in whatever way: a
// crash leaves the file, which harms nobody.
class FileLock {
 public:
  // Creates the file if need be and writes the process's number into it. Fails if another process
  // keeps it; the error names the folder and that process.
  explicit FileLock(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int file_;
};

}  // namespace chalk
