// What the fuzz targets share whose input is read from the disk: a folder of the process, and files
// written without waiting for the disk.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>

namespace chalk::fuzz {

namespace fs = std::filesystem;

struct ScratchFolder {
  fs::path path;

  ScratchFolder() {
    std::string name = fs::temp_directory_path() / "chalk_fuzz_XXXXXX";
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path = name;
  }
  ~ScratchFolder() { fs::remove_all(path); }
};

inline void write(const fs::path& path, std::span<const std::uint8_t> bytes = {}) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

}  // namespace chalk::fuzz
