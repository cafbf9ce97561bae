// A block of CUDA threads on the CPU: each thread is a fiber, all of them share one thread of the
// system, which runs them one at a time, each until it must wait for others.
//
// A thread waits in two places. At __syncthreads() until the whole block is there; in a warp's
// collective operation (shuffle, vote, tensor core) until those lanes are there that take part. So
// a barrier that some threads never reach is seen, with the lines where the others wait, and not a
// hang.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda/on_cpu/fiber.h"

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned along_x = 1, unsigned along_y = 1, unsigned along_z = 1)
      : x(along_x), y(along_y), z(along_z) {}
};

// Variables, as in CUDA, that a debugger can print and a breakpoint's condition can name.
inline thread_local uint3 threadIdx, blockIdx;
inline thread_local dim3 blockDim, gridDim;

namespace chalk::cuda::on_cpu {

// In which order threads and blocks run: as the environment variable EMU_ORDER says, `forward`,
// `reverse` or `shuffle`. On a GPU there is none; results must not depend on it.
enum class Order { forward, reverse, shuffle };
Order order();

// Where a thread waits.
struct Site {
  const char* what;  // nullptr: it does not
  const char* file;
  int line;

  bool operator==(const Site& other) const;
};
std::string to_string(const Site& site);

// The block and the thread that run: "block (0, 0, 0), thread (3, 0, 0)".
std::string where();

// A copy by cp.async that has not arrived.
struct PendingCopy {
  void* to;
  const void* from;
  int bytes;   // 4 or 16
  bool valid;  // else zeros
  int group;
};

struct Thread {
  uint3 index{};
  Fiber* fiber = nullptr;  // from its first instruction on
  int phase = 0;           // how many barriers it has passed
  Site waits{};
  unsigned mask = 0;         // of the collective operation it waits in,
  void* operands = nullptr;  // and what it brought
  std::vector<PendingCopy> copies;
  int group = 0;  // the one that its next copy belongs to

  // Only their addresses count, as places where ThreadSanitizer sees an order.
  char brought = 0, answered[2] = {};
  int parity = 0;
  char* answer = nullptr;
};

class Block {
 public:
  static constexpr int lanes = 32;

  // Runs body(argument) once for each thread of a block of this shape. Returns false where one of
  // them failed, which has been reported; then no other block may be run.
  bool run(dim3 shape, void (*body)(void*), void* argument);

  Thread& thread() { return threads_[static_cast<std::size_t>(current_)]; }
  int lane() const { return current_ % lanes; }

  // Whether a kernel runs and the address is none of its local variables.
  bool in_memory(const void* address) { return running_ && !thread().fiber->on_stack(address); }

  // __syncthreads()
  void barrier(const Site& site);

  // Waits until all lanes in `mask` are here with their operands; then one of them calls
  // compute(operands), where operands[lane] is nullptr for those not in the mask. That says nothing
  // of what the lanes wrote to memory before: of all collectives only __syncwarp() orders_memory.
  template <typename Compute>
  void collective(unsigned mask, void* operands, const Site& site, const Compute& compute,
                  bool orders_memory = false) {
    const Unwatched unwatched;
    Thread& mine = thread();
    if (orders_memory) release(&mine.brought);
    void* all[lanes] = {};
    if (arrive_in_warp(mask, operands, site, all)) {
      compute(all);
      if (orders_memory) order_warp(mask);
      release_warp(mask);
    }
    if (orders_memory) acquire(mine.answer);
    mine.waits = {};
  }

  // Reports what the current thread did wrong, and gives the launch up.
  [[noreturn]] void fail(const std::string& why);

 private:
  static void run_threads();
  int next_thread();
  void select(int thread);
  void go_on(Fiber& from, int thread);
  void wait();
  bool arrive_in_warp(unsigned mask, void* operands, const Site& site, void** all);
  void order_warp(unsigned mask);
  void release_warp(unsigned mask);
  void report_deadlock() const;
  Fiber& free_fiber();
  unsigned random();

  std::vector<Thread> threads_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::size_t fibers_in_use_ = 0;
  Fiber main_, *left_ = nullptr;  // left_: the fiber that was last switched from

  // By warp, a bit for each lane: can go on; waits in a collective operation; exists at all.
  static constexpr int most_warps = 32;
  unsigned runnable_[most_warps] = {}, arrived_[most_warps] = {}, exists_[most_warps] = {};
  int count_ = 0, warps_ = 0, current_ = 0;
  int living_ = 0, at_barrier_ = 0, phase_ = 0;
  Site barrier_{};
  char barrier_order_[2] = {};
  unsigned random_ = 1;
  bool running_ = false, failed_ = false;
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
};

// The one that runs, or ran last.
Block& block();

}  // namespace chalk::cuda::on_cpu
