// Any bytes as a checkpoint: a run to go on with, or an Error.
#include "autograd/check.h"
#include "examples/fer/checkpoint.h"
#include "tests/fuzz/input_file.h"

using namespace chalk;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::ScratchFolder folder;
  static FerNet model;
  static AdamW optimizer(model.parameters(), {});
  const std::string path = folder.path / "input";
  fuzz::write(path, {data, size});
  try {
    fer::load_checkpoint(path, model, optimizer);
  } catch (const Error&) {
  }
  return 0;
}
