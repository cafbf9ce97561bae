// A folder of a test's own, which is gone at its end, and the text of a file in it.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "data/files.h"

namespace chalk::testing {

namespace fs = std::filesystem;

struct TemporaryFolder {
  fs::path path;

  TemporaryFolder() {
    std::string name = fs::temp_directory_path() / "chalk_XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~TemporaryFolder() { fs::remove_all(path); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string operator/(const std::string& name) const { return path / name; }
};

inline std::string read_text(const std::string& path) {
  const std::vector<std::uint8_t> bytes = read_file(path);
  return {bytes.begin(), bytes.end()};
}

}  // namespace chalk::testing
