#include "data/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "autograd/check.h"

namespace chalk {
namespace {

// A POSIX file descriptor that closes itself. std::ofstream cannot say why a write failed, nor wait
// for the disk.
struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) close(number);
  }
};

std::string reason(int error) {
  return std::generic_category().message(error);
}

// Returns 0, or the errno of the step that failed.
int write_all(const std::string& path, std::span<const std::uint8_t> bytes) {
  const Descriptor file{open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
  if (file.number < 0) return errno;
  while (!bytes.empty()) {
    const ssize_t written = write(file.number, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return fsync(file.number) == 0 || errno == EINVAL ? 0 : errno;  // EINVAL: a pipe or a terminal
}

// Something to write to but not to replace, such as /dev/stdout.
bool is_device(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

}  // namespace

FileReader::FileReader(const std::string& path) : path_(path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) fail("cannot read ", path, ": ", reason(errno));
  check(!S_ISDIR(status.st_mode), "cannot read ", path, ": it is a folder; name a file in it");
  check(S_ISREG(status.st_mode), "cannot read ", path, ": it is not a regular file");
  size_ = static_cast<std::uint64_t>(status.st_size);
  descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) fail("cannot read ", path, ": ", reason(errno));
}

FileReader::~FileReader() {
  close(descriptor_);
}

std::size_t FileReader::read(std::span<std::uint8_t> bytes) {
  std::size_t size = 0;
  while (size < bytes.size()) {
    const ssize_t count = ::read(descriptor_, bytes.data() + size, bytes.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("cannot read ", path_, ": ", reason(errno));
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
  }
  return size;
}

std::vector<std::uint8_t> read_file(const std::string& path) {
  FileReader file(path);
  check(file.size() <= kMaxFileBytes, "cannot read ", path, ": it has ", file.size(),
        " bytes, the limit is ", kMaxFileBytes, "; is it the right file?");
  // One byte more than the file is said to hold, so that its end is seen without growing.
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(file.size()) + 1);
  std::size_t size = file.read(bytes);
  while (size == bytes.size()) {
    bytes.resize(2 * size);
    size += file.read(std::span(bytes).subspan(size));
  }
  bytes.resize(size);
  return bytes;
}

void write_file(const std::string& path, std::span<const std::uint8_t> bytes) {
  const bool replace = !is_device(path);
  const std::string written = replace ? path + ".tmp" : path;
  int error = write_all(written, bytes);
  if (error == 0 && replace && std::rename(written.c_str(), path.c_str()) != 0) error = errno;
  if (error != 0) {
    if (replace) unlink(written.c_str());
    fail("cannot write ", path, ": ", reason(error), " (", bytes.size(),
         " bytes); check that the folder exists, may be written to and has room");
  }
  // The new name is on the disk only once the folder is; where that cannot be asked for, no harm.
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const Descriptor directory{open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC)};
  if (directory.number >= 0) fsync(directory.number);
}

void write_file(const std::string& path, std::string_view text) {
  write_file(path, std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
}

void write_folder(const std::string& folder, const std::function<void(const std::string&)>& fill) {
  namespace fs = std::filesystem;
  const fs::path target = (fs::path(folder) / "").parent_path();  // "faces/" is "faces"
  const std::string unfinished = target.string() + "." + std::to_string(getpid()) + ".tmp";
  try {
    check(!target.empty(), "the name is empty");
    fs::create_directories(unfinished);
    fill(unfinished);
    fs::rename(unfinished, target);
  } catch (const std::exception& error) {
    std::error_code ignored;
    fs::remove_all(unfinished, ignored);
    fail("cannot create the folder ", folder, ": ", error.what());
  }
}

}  // namespace chalk
