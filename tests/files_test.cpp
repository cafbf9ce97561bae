// Whole files in and out; what is left behind when the disk is full.
#include "data/files.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "tests/temporary_folder.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

TEST_CASE("files are read as they were written, and replaced") {
  const TemporaryFolder folder;
  std::vector<std::uint8_t> bytes(100'003);
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::uint8_t>(i * i >> 3);
  write_file(folder / "a", bytes);
  CHECK(read_file(folder / "a") == bytes);
  write_file(folder / "a", "short");
  CHECK(read_text(folder / "a") == "short");
  write_file(folder / "a", "");
  CHECK(read_file(folder / "a").empty());
  CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 1);  // no .tmp is left
  CHECK(!read_file("/proc/self/status").empty());                      // its size is said to be 0
}

TEST_CASE("a full disk leaves the old file and no temporary one") {
  const TemporaryFolder folder;
  write_file(folder / "a", "old");
  // A limit on the size of files stands in for a full disk.
  struct rlimit before {};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small { 1000, before.rlim_max };
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  const std::string message = error_of([&] { write_file(folder / "a", std::string(5000, 'x')); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(message.find("cannot write " + (folder / "a") + ": File too large (5000 bytes)") == 0);
  CHECK(read_text(folder / "a") == "old");
  CHECK(!fs::exists(folder / "a.tmp"));
}

TEST_CASE("a folder appears whole or not at all") {
  const TemporaryFolder folder;
  const auto fill = [](const std::string& unfinished) { write_file(unfinished + "/a", "text"); };
  const auto count = [&] { return std::distance(fs::directory_iterator(folder.path), {}); };
  for (const char* name : {"one", "two/", "three//"}) {
    write_folder(folder / name, fill);
    CHECK(read_text(folder / name + "/a") == "text");
  }
  CHECK(count() == 3);
  CHECK_THROWS_WITH_AS(write_folder(folder / "one/", fill), doctest::Contains("not empty"), Error);
  CHECK_THROWS_WITH_AS(write_folder(folder / "one/a/b", fill), doctest::Contains("one/a/b"), Error);
  CHECK_THROWS_AS(write_folder("", fill), Error);
  const auto fill_half = [&](const std::string& unfinished) {
    fill(unfinished);
    fail("half");
  };
  CHECK_THROWS_WITH_AS(write_folder(folder / "four", fill_half), doctest::Contains("half"), Error);
  CHECK(count() == 3);
}

TEST_CASE("what killed processes left of a folder is removed, what others are at work at is not") {
  const TemporaryFolder folder;
  const auto fill = [&](const std::string& unfinished) {
    write_file(unfinished + "/a", "text");
    write_folder(folder / "faces2", [](const std::string&) {});
    const auto not_at_work = [](const std::string&) { fail("there was no folder under work"); };
    CHECK_THROWS_AS(write_folder(folder / "faces", not_at_work), Error);
    CHECK(read_text(unfinished + "/a") == "text");
  };
  const std::string left = folder / "faces.4194304.tmp";  // a number no process has
  fs::create_directories(left + "/DATASET");
  for (const char* other : {"faces.tmp", "faces.x.tmp", "more.4194304.tmp"})
    fs::create_directories(folder / other);
  write_folder(folder / "faces", fill);
  CHECK(!fs::exists(left));
  CHECK(read_text(folder / "faces/a") == "text");
  for (const char* other : {"faces.tmp", "faces.x.tmp", "more.4194304.tmp"})
    CHECK(fs::exists(folder / other));
}

TEST_CASE("a file is kept by one at a time") {
  const TemporaryFolder folder;
  const std::string path = folder / "lock";
  const std::string expected =
      folder.path.string() + " is in use by another process, number " + std::to_string(getpid());
  {
    const FileLock lock(path);
    CHECK_THROWS_WITH_AS(FileLock{path}, doctest::Contains(expected.c_str()), Error);
  }
  const FileLock again(path);  // the file is there, nobody keeps it
  CHECK(read_text(path) == std::to_string(getpid()));
  CHECK_THROWS_WITH_AS(FileLock(folder / "none/lock"), doctest::Contains("No such file"), Error);
}

TEST_CASE("a pipe is written to, never replaced") {
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  const int reader = open(pipe.c_str(), O_RDWR);  // so that opening it to write does not wait
  write_file(pipe, "text");
  CHECK(fs::is_fifo(pipe));
  char received[5] = {};
  CHECK(read(reader, received, 4) == 4);
  CHECK(std::string(received) == "text");
  close(reader);
}

TEST_CASE("what is no readable file is named") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH_AS(read_file(folder / "none"), doctest::Contains("none: No such file"), Error);
  CHECK_THROWS_WITH_AS(read_file(folder.path), doctest::Contains("it is a folder"), Error);
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);  // opening it would wait for ever
  CHECK_THROWS_WITH_AS(read_file(folder / "pipe"), doctest::Contains("not a regular file"), Error);
  CHECK_THROWS_WITH_AS(write_file(folder / "no/a", "x"), doctest::Contains("No such file"), Error);
  fs::create_directories(folder.path / "folder");
  CHECK_THROWS_WITH_AS(write_file(folder / "folder", "x"), doctest::Contains("directory"), Error);
  CHECK(!fs::exists(folder / "folder.tmp"));
}
