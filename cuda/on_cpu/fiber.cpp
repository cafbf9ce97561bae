#include "cuda/on_cpu/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace chalk::cuda::on_cpu {
namespace {

// Deep enough for a kernel; sanitizers need more of it.
constexpr std::size_t stack_size =
    address_sanitizer || thread_sanitizer ? std::size_t{512} << 10 : std::size_t{64} << 10;
constexpr std::size_t guard = 4096;

// A stack grows down; it ends at memory that nobody may touch, so that an overflow is seen.
char* new_stack() {
  void* memory = mmap(nullptr, stack_size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::fputs("cuda (on cpu): no memory for another thread's stack\n", stderr);
    std::abort();
  }
  mprotect(memory, guard, PROT_NONE);
  return static_cast<char*>(memory);
}

// Where each stack begins differs a little: at the same offset in all of them, the threads' local
// variables would compete for the same few lines of the cache.
std::size_t colour(const char* stack) {
  constexpr std::size_t lines = 13 * 64, most = 16 << 10;
  return reinterpret_cast<std::uintptr_t>(stack) / stack_size * lines % most;
}

#if defined(__x86_64__)
// Pushes the registers that a call must keep, changes stacks, pops those of the other.
extern "C" void chalk_switch_stacks(void** save, void* load);
asm(R"(
.text
.type chalk_switch_stacks, @function
chalk_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size chalk_switch_stacks, .-chalk_switch_stacks
)");

void switch_stacks(void*& from, void*& to) {
  chalk_switch_stacks(&from, to);
}

void prepare(void*& context, char* stack, std::size_t size, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + size);
  *--top = nullptr;  // no one to return to: here a debugger's backtrace ends
  *--top = reinterpret_cast<void*>(entry);
  for (int saved_register = 0; saved_register < 6; ++saved_register)
    *--top = nullptr;
  context = top;
}
#else
void switch_stacks(ucontext_t& from, ucontext_t& to) {
  swapcontext(&from, &to);
}

void prepare(ucontext_t& context, char* stack, std::size_t size, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = size;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}
#endif

}  // namespace

Fiber::Fiber(void (*entry)()) {
  char* stack = new_stack();
  sanitized_.tsan = new_tsan_fiber();
  sanitized_.bottom = stack;
  sanitized_.size = stack_size;
  prepare(context_, stack, stack_size - colour(stack), entry);
}

void Fiber::switch_to(Fiber& other) {
  leave(sanitized_, other.sanitized_);
  switch_stacks(context_, other.context_);
  SanitizedFiber unknown;  // whoever came back to this fiber told where it was when it left
  arrive(sanitized_, unknown);
}

}  // namespace chalk::cuda::on_cpu
