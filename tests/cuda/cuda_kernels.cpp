// What stands in place of tests/second_device.cpp where the tests run on the kernels of cuda/.
#include "tests/testing.h"

const bool chalk::testing::has_cuda_kernels = true;
