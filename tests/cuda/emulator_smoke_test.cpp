#include "tests/testing.h"
using namespace chalk;
using namespace chalk::testing;
TEST_CASE("smoke") {
  CHECK(to_string(Device::cuda) == "cuda (on cpu)");
}
