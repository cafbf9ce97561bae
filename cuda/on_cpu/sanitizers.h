// What GCC's and Clang's sanitizers must be told, in one place: that a CUDA thread is a fiber with
// a stack of its own, that to ThreadSanitizer it is a thread, and that barriers put it in order.
//
// Without a sanitizer all of this is empty.
#pragma once

#include <cstddef>

// Clang says it in words of its own.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#elif __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__)
#define __SANITIZE_THREAD__ 1
#endif
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(__SANITIZE_THREAD__)
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void* __tsan_get_current_fiber();
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace chalk::cuda::on_cpu {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool address_sanitizer = true, thread_sanitizer = false;
#elif defined(__SANITIZE_THREAD__)
inline constexpr bool address_sanitizer = false, thread_sanitizer = true;
#else
inline constexpr bool address_sanitizer = false, thread_sanitizer = false;
#endif

// A fiber, or the program's own stack, as the sanitizers know it.
struct SanitizedFiber {
  void* tsan = nullptr;
  void* fake_stack = nullptr;  // AddressSanitizer's, while the fiber is left
  const void* bottom = nullptr;
  std::size_t size = 0;
};

// Call order: leave(from, to), switch stacks, arrive(the fiber that now runs, the one left).
#if defined(__SANITIZE_ADDRESS__)
inline void leave(SanitizedFiber& from, SanitizedFiber& to) {
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
}
inline void arrive(SanitizedFiber& here, SanitizedFiber& left) {
  // Where the other's stack lies is only known for sure once it was left.
  __sanitizer_finish_switch_fiber(here.fake_stack, &left.bottom, &left.size);
}
inline void close_to_host(void* memory, std::size_t bytes) {
  __asan_poison_memory_region(memory, bytes);
}
inline void open_to_host(void* memory, std::size_t bytes) {
  __asan_unpoison_memory_region(memory, bytes);
}
#elif defined(__SANITIZE_THREAD__)
inline void leave(SanitizedFiber&, SanitizedFiber& to) {
  constexpr unsigned without_order = 1;  // only barriers order the threads, not the switch
  __tsan_switch_to_fiber(to.tsan, without_order);
}
inline void arrive(SanitizedFiber&, SanitizedFiber&) {}
#else
inline void leave(SanitizedFiber&, SanitizedFiber&) {}
inline void arrive(SanitizedFiber&, SanitizedFiber&) {}
#endif

// What happened before release(p) is seen after acquire(p).
#if defined(__SANITIZE_THREAD__)
inline void* new_tsan_fiber() {
  return __tsan_create_fiber(0);
}
inline void* current_tsan_fiber() {
  return __tsan_get_current_fiber();
}
inline void acquire(void* p) {
  __tsan_acquire(p);
}
inline void release(void* p) {
  __tsan_release(p);
}
inline void ignore_accesses() {
  AnnotateIgnoreReadsBegin("", 0);
  AnnotateIgnoreWritesBegin("", 0);
}
inline void watch_accesses() {
  AnnotateIgnoreReadsEnd("", 0);
  AnnotateIgnoreWritesEnd("", 0);
}
#else
inline void* new_tsan_fiber() {
  return nullptr;
}
inline void* current_tsan_fiber() {
  return nullptr;
}
inline void acquire(void*) {}
inline void release(void*) {}
inline void ignore_accesses() {}
inline void watch_accesses() {}
#endif

// While it lives, ThreadSanitizer looks away: the emulator's own memory is shared without barriers.
struct Unwatched {
  Unwatched() { ignore_accesses(); }
  ~Unwatched() { watch_accesses(); }
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;
};

}  // namespace chalk::cuda::on_cpu
