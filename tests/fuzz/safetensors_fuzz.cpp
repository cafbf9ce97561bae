// Any bytes as a safetensors file: tensors, which survive being written and read, or an Error.
#include "autograd/check.h"
#include "data/safetensors.h"
#include "tests/fuzz/input_file.h"

using namespace chalk;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::ScratchFolder folder;
  const std::string path = folder.path / "input", copy = folder.path / "copy";
  fuzz::write(path, {data, size});
  TensorFile file;
  try {
    file = read_safetensors(path);
  } catch (const Error&) {
    return 0;
  }
  write_safetensors(copy, file);  // what could be read can be written: an Error here is a crash
  const TensorFile back = read_safetensors(copy);
  if (back.tensors.size() != file.tensors.size() || back.metadata != file.metadata) std::abort();
  return 0;
}
