// What commands begin with: the device, the threads, the data set.
#pragma once

#include <exception>
#include <string>

#include "autograd/tensor.h"
#include "data/raf_db.h"

namespace chalk::fer {

inline constexpr Index kMaxBatch = 4096;
inline constexpr int kMaxThreads = 1024, kMaxWorkers = 256;

struct Machine {
  std::string device = "cpu";  // or what Device::named knows
  int threads = 0;             // of the CPU's kernels; 0: one for each core
  int workers = 2;             // threads that prepare images; 0: none beside the one that trains
};

// Checks the options, sets the number of threads, returns the device. Fails if this build does not
// have it, or the system does not allow as many threads.
Device use_machine(const Machine& machine);

// What an exception says, and what to do where the system's own words, such as "std::bad_alloc", do
// not tell.
std::string message_of(const std::exception& error);

// The data set in a folder; without a folder the drawn faces in data-cache/, which the first call
// draws. Says on the screen what it found. See find_faces() for `with_training`.
FaceSets open_faces(const std::string& folder, bool with_training);

}  // namespace chalk::fer
