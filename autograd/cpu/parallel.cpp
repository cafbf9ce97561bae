#include "autograd/cpu/parallel.h"

#include <atomic>
#include <exception>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace chalk::cpu {

static std::atomic<int> chosen_num_threads = 0;

void set_num_threads(int count) {
  chosen_num_threads = std::max(count, 0);
}

int num_threads() {
#ifdef _OPENMP
  const int chosen = chosen_num_threads;
  return chosen > 0 ? chosen : omp_get_max_threads();
#else
  return 1;
#endif
}

void call_in_parallel(Index count, void (*call)(const void* address, Index i, int thread),
                      const void* address) {
#ifdef _OPENMP
  if (count > 1 && num_threads() > 1 && !omp_in_parallel()) {
    std::exception_ptr error;
#pragma omp parallel for schedule(dynamic) num_threads(num_threads())
    for (Index i = 0; i < count; ++i) {
      try {
        call(address, i, omp_get_thread_num());
      } catch (...) {
#pragma omp critical(chalk_parallel_error)
        error = std::current_exception();
      }
    }
    if (error) std::rethrow_exception(error);
    return;
  }
#endif
  for (Index i = 0; i < count; ++i)
    call(address, i, 0);
}

}  // namespace chalk::cpu
