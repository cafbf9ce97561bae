// Threads. The loop over them is in parallel.cpp, the one place that knows OpenMP, and works, on
// one thread, where it is switched off.
//
// A kernel cuts its work into pieces that write different outputs. How it cuts depends on the
// shapes alone, never on the number of threads, so every number of threads gives the same bits.
#pragma once

#include <algorithm>
#include <type_traits>

#include "autograd/shape.h"

namespace chalk::cpu {

// How many threads the loops below may use from now on; 0, as it is at first, for OpenMP's own
// choice (OMP_NUM_THREADS or the number of cores).
void set_num_threads(int count);
int num_threads();

// parallel_for() for a body at an address that only `call` can read: with the loop and its threads
// in parallel.cpp, a kernel's work is compiled once.
void call_in_parallel(Index count, void (*call)(const void* address, Index i, int thread),
                      const void* address);

// Calls body(i) or body(i, thread) once for every i < count, in any order, on several threads;
// thread < num_threads() tells which, so that each may use its own slice of a scratch buffer.
// An exception of the body reaches the caller, once all threads are done. Inside another
// parallel_for it runs on the calling thread alone.
template <typename Body>
void parallel_for(Index count, const Body& body) {
  const auto call = [](const void* address, Index i, [[maybe_unused]] int thread) {
    const Body& work = *static_cast<const Body*>(address);
    if constexpr (std::is_invocable_v<Body, Index, int>) {
      work(i, thread);
    } else {
      work(i);
    }
  };
  call_in_parallel(count, call, &body);
}

// Calls body(begin, end) for the pieces [0, grain), [grain, 2 grain), ... of [0, count).
template <typename Body>
void parallel_ranges(Index count, Index grain, const Body& body) {
  parallel_for((count + grain - 1) / grain,
               [&](Index piece) { body(piece * grain, std::min(count, (piece + 1) * grain)); });
}

// A sum over many terms whose result is an array (the gradient of a weight) is cut into pieces,
// each with a result of its own, in the cache of the thread that works at it; add_pieces adds them.
// Eight, so that as many threads find work; only one, where there are few terms or the arrays would
// fill the caches: then the loops inside of the piece run on all threads.
inline Index pieces_of_sum(Index terms, Index result_bytes) {
  constexpr Index pieces = 8, room = 16 << 20;
  return terms >= pieces && pieces * result_bytes <= room ? pieces : 1;
}

// sums [pieces, size]: adds all to the first, in order.
template <typename T>
void add_pieces(Index pieces, Index size, T* sums) {
  parallel_ranges(size, 4096, [&](Index begin, Index end) {
    for (Index piece = 1; piece < pieces; ++piece)
      for (Index i = begin; i < end; ++i)
        sums[i] += sums[piece * size + i];
  });
}

}  // namespace chalk::cpu
