// Any bytes as an image file: pixels or an Error, nothing else, and the same pixels every time.
#include <cstdlib>

#include "autograd/check.h"
#include "data/image.h"

using namespace chalk;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const Image image = decode_image({data, size}, "input");
    if (image.pixels.size() > 100'000) return 0;  // to decode it again would take too long
    if (image.pixels != decode_image({data, size}, "input").pixels) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
