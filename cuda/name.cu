// What messages call a GPU; on_cpu/ calls its devices otherwise.
#include "autograd/devices.h"

std::string chalk::cuda_name(int index) {
  return "cuda:" + std::to_string(index);
}
