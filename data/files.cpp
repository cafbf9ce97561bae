#include "data/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
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
int write_all(const std::string& path, std::span<const std::span<const std::uint8_t>> pieces) {
  const Descriptor file{open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
  if (file.number < 0) return errno;
  for (std::span<const std::uint8_t> bytes : pieces)
    while (!bytes.empty()) {
      const ssize_t written = write(file.number, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return errno;
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  return fsync(file.number) == 0 || errno == EINVAL ? 0 : errno;  // EINVAL: a pipe or a terminal
}

// Whether another process keeps the file. Where the file system knows no locks, nobody does.
bool kept_by_another(int file) {
  return flock(file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
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

void write_file(const std::string& path, std::span<const std::span<const std::uint8_t>> pieces) {
  const bool replace = !is_device(path);
  const std::string written = replace ? path + ".tmp" : path;
  int error = write_all(written, pieces);
  if (error == 0 && replace && std::rename(written.c_str(), path.c_str()) != 0) error = errno;
  if (error != 0) {
    if (replace) unlink(written.c_str());
    std::size_t size = 0;
    for (const std::span<const std::uint8_t> bytes : pieces)
      size += bytes.size();
    fail("cannot write ", path, ": ", reason(error), " (", size,
         " bytes); check that the folder exists, may be written to and has room");
  }
  // The new name is on the disk only once the folder is; where that cannot be asked for, no harm.
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const Descriptor directory{open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC)};
  if (directory.number >= 0) fsync(directory.number);
}

void write_file(const std::string& path, std::span<const std::uint8_t> bytes) {
  write_file(path, std::span(&bytes, 1));
}

void write_file(const std::string& path, std::string_view text) {
  write_file(path, std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
}

// ---- folders ----

namespace fs = std::filesystem;

// A folder under work. As long as this lives other processes see that it is not left over.
struct UnfinishedFolder {
  const std::string path;
  const Descriptor folder;

  explicit UnfinishedFolder(const std::string& name)
      : path(name),
        folder{(fs::create_directories(name), open(name.c_str(), O_RDONLY | O_CLOEXEC))} {
    check(!kept_by_another(folder.number), "another process writes ", name);
  }
  ~UnfinishedFolder() {
    std::error_code ignored;  // it is not there any more if all went well
    fs::remove_all(path, ignored);
  }
};

// Removes each <target>.<process>.tmp that nobody is at work in.
static void remove_unfinished(const fs::path& target) {
  const std::string begin = target.filename().string() + ".", end = ".tmp";
  std::error_code unknown;  // then creating the folder says what is wrong
  const fs::path parent = target.parent_path();
  for (const fs::directory_entry& entry :
       fs::directory_iterator(parent.empty() ? "." : parent, unknown)) {
    const std::string name = entry.path().filename().string();
    if (name.size() <= begin.size() + end.size()) continue;
    if (!name.starts_with(begin) || !name.ends_with(end)) continue;
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (!std::all_of(name.begin() + begin.size(), name.end() - end.size(), is_digit)) continue;
    const Descriptor folder{open(entry.path().c_str(), O_RDONLY | O_CLOEXEC)};
    if (flock(folder.number, LOCK_EX | LOCK_NB) == 0) fs::remove_all(entry.path(), unknown);
  }
}

void write_folder(const std::string& folder, const std::function<void(const std::string&)>& fill) {
  const fs::path target = (fs::path(folder) / "").parent_path();  // "faces/" is "faces"
  check(!target.empty(), "cannot create a folder: its name is empty");
  remove_unfinished(target);
  try {
    const UnfinishedFolder unfinished(target.string() + "." + std::to_string(getpid()) + ".tmp");
    fill(unfinished.path);
    fs::rename(unfinished.path, target);
  } catch (const fs::filesystem_error& error) {
    fail("cannot create the folder ", folder, ": ", error.code().message());
  }
}

// ---- locks ----

FileLock::FileLock(const std::string& path)
    : file_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (file_ < 0)
    fail("cannot write ", path, ": ", reason(errno), "; may its folder be written to?");
  if (kept_by_another(file_)) {
    char process[16] = {};
    const bool known = read(file_, process, sizeof process - 1) > 0;
    close(file_);
    fail(fs::path(path).parent_path().string(), " is in use by another process",
         known ? ", number " : "", process, "; wait until it is done, or stop it");
  }
  const std::string process = std::to_string(getpid());
  [[maybe_unused]] const bool told = ftruncate(file_, 0) == 0 &&  // it is kept in any case
                                     write(file_, process.data(), process.size()) > 0;
}

FileLock::~FileLock() {
  close(file_);
}

}  // namespace chalk
