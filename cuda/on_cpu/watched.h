// An element type whose reads and writes are seen. With T = Watched any kernel tells which thread
// touched what, between which barriers; from that follow 32-byte sectors of global memory, bank
// conflicts of shared memory, and races.
//
//   const auto accesses = watch([&] { launch(kernel<Watched>, 1, 32, 0, x, y); });
//   requests(accesses, Memory::global, Way::read).sectors
//
// A Watched among a thread's local variables is a register, which nobody watches; all others lie in
// global memory where on_device() says so, else in shared memory. (So one that a kernel is passed
// by value seems to be read from shared memory.) What is seen is what the kernel's source asks for:
// a compiler may keep a number in a register that the source reads twice, or fetch four in one
// access. Copies of cp_async and reads through float4 are not seen.
#pragma once

#include <functional>
#include <vector>

namespace chalk::cuda::on_cpu {

enum class Memory { global, shared };
enum class Way { read, write };

struct Access {
  const void* address;  // of 4 bytes
  Memory memory;
  Way way;
  long launch, block;  // blocks and threads are numbered along x first
  int thread, phase;   // phase: how many barriers the thread has passed
};

// Called for each access, while there is one.
inline std::function<void(const Access&)> on_access;
void note_access(const void* address, Way way);

class Watched {
 public:
  Watched() = default;
  Watched(float value) : value_(value) {}
  Watched(const Watched& other) : value_(other) {}
  Watched& operator=(const Watched& other) { return *this = static_cast<float>(other); }
  Watched& operator=(float value) {
    note_access(this, Way::write);
    value_ = value;
    return *this;
  }
  operator float() const {
    note_access(this, Way::read);
    return value_;
  }
  Watched& operator+=(float x) { return *this = *this + x; }
  Watched& operator-=(float x) { return *this = *this - x; }
  Watched& operator*=(float x) { return *this = *this * x; }
  Watched& operator/=(float x) { return *this = *this / x; }

 private:
  float value_;
};

// All accesses of what is launched meanwhile, each thread's in its order.
std::vector<Access> watch(const std::function<void()>& launches);

// A request is what the lanes of a warp read, or write, at once: of each lane that takes part the
// access of the same number since its last barrier. (Lanes of which some went another way since
// then may be put together wrongly.)
struct Requests {
  long count = 0;
  long sectors = 0;    // of 32 bytes: 4 a request are as few as can be, where 32 lanes read 4 bytes
  long conflicts = 0;  // rounds more than one: in each a bank, of 32, gives one word of 4 bytes
};
Requests requests(const std::vector<Access>& accesses, Memory memory, Way way);

// Two threads of a block touch the same address with no barrier between, and at least one writes.
// One race is told for each address and phase. A __syncwarp() is not seen.
struct Race {
  Access first, second;
};
std::vector<Race> races(const std::vector<Access>& accesses);

}  // namespace chalk::cuda::on_cpu
