// Fibers: stacks that one thread of the system switches between, by itself and in any order.
#pragma once

#include <functional>

#include "cuda/on_cpu/sanitizers.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace chalk::cuda::on_cpu {

class Fiber {
 public:
  // The stack that the program itself runs on.
  Fiber() = default;

  // A new stack; entry() begins there when it is first switched to, and must never return.
  explicit Fiber(void (*entry)());
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Leaves this fiber, which must be the one that runs, for another; returns when someone switches
  // back.
  void switch_to(Fiber& other);

  // First of all in entry(): from where it was switched to.
  static void begin(Fiber& here, Fiber& left) { arrive(here.sanitized_, left.sanitized_); }

  bool on_stack(const void* address) const {
    const std::less<> below;
    const char* bottom = static_cast<const char*>(sanitized_.bottom);
    return !below(address, bottom) && below(address, bottom + sanitized_.size);
  }

  void adopt_current_thread() { sanitized_.tsan = current_tsan_fiber(); }

 private:
#if defined(__x86_64__)
  using Context = void*;  // a stack pointer: the registers lie on the stack
#else
  using Context = ucontext_t;
#endif
  Context context_{};
  SanitizedFiber sanitized_;
};

}  // namespace chalk::cuda::on_cpu
