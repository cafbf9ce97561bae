#include "cuda/on_cpu/block.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string_view>

namespace chalk::cuda::on_cpu {

Order order() {
  static const Order chosen = [] {
    const char* name = std::getenv("EMU_ORDER");
    const std::string_view text = name == nullptr ? "forward" : name;
    if (text == "reverse") return Order::reverse;
    if (text == "shuffle") return Order::shuffle;
    if (text != "forward") {
      std::fputs("EMU_ORDER is none of forward, reverse, shuffle\n", stderr);
      std::exit(2);
    }
    return Order::forward;
  }();
  return chosen;
}

bool Site::operator==(const Site& other) const {
  return line == other.line && std::strcmp(what, other.what) == 0 &&
         std::strcmp(file, other.file) == 0;
}

std::string to_string(const Site& site) {
  return std::string(site.what) + " at " + site.file + ":" + std::to_string(site.line);
}

Block& block() {
  static Block& instance = *new Block;
  return instance;
}

// ---- which thread runs ----

unsigned Block::random() {
  random_ = random_ * 1664525 + 1013904223;
  return random_ >> 16;
}

// One that can go on, of the current warp or one after it (before it, any); -1 where there is none.
int Block::next_thread() {
  const int first =
      order() == Order::shuffle ? static_cast<int>(random()) % warps_ : current_ / lanes;
  for (int i = 0; i < warps_; ++i) {
    const int warp = (first + (order() == Order::reverse ? warps_ - i : i)) % warps_;
    unsigned can = runnable_[warp];
    if (can == 0) continue;
    if (order() == Order::shuffle)
      for (unsigned skip = random() % lanes; skip > 0 && (can & (can - 1)) != 0; --skip)
        can &= can - 1;
    return warp * lanes +
           (order() == Order::reverse ? lanes - 1 - std::countl_zero(can) : std::countr_zero(can));
  }
  return -1;
}

void Block::select(int thread) {
  current_ = thread;
  runnable_[thread / lanes] &= ~(1u << thread % lanes);
  threadIdx = threads_[static_cast<std::size_t>(thread)].index;
}

// Switches to a thread, or back to run() where it is -1.
void Block::go_on(Fiber& from, int thread) {
  Fiber* to = &main_;
  if (thread >= 0) {
    select(thread);
    Thread& t = threads_[static_cast<std::size_t>(thread)];
    if (t.fiber == nullptr) t.fiber = &free_fiber();
    to = t.fiber;
  }
  left_ = &from;
  from.switch_to(*to);
}

// Lets others run until something makes this thread runnable.
void Block::wait() {
  release(&living_);
  go_on(*thread().fiber, next_thread());
}

Fiber& Block::free_fiber() {
  if (fibers_in_use_ == fibers_.size()) fibers_.push_back(std::make_unique<Fiber>(run_threads));
  return *fibers_[fibers_in_use_++];
}

// What a fiber does: one thread after the other. A thread that has not begun needs no switch, it
// can have this stack; but to ThreadSanitizer it would be the same thread.
void Block::run_threads() {
  Block& b = block();
  acquire(&b);
  Fiber::begin(*b.thread().fiber, *b.left_);
  for (;;) {
    acquire(&b);
    b.body_(b.argument_);
    const Unwatched unwatched;
    release(&b.living_);
    Fiber& here = *b.thread().fiber;
    b.thread().waits = {};
    --b.living_;
    const int next = b.next_thread();
    if (next >= 0 && b.threads_[static_cast<std::size_t>(next)].fiber == nullptr &&
        !thread_sanitizer) {
      b.select(next);
      b.thread().fiber = &here;
    } else {
      b.go_on(here, next);  // comes back for a thread of another block
    }
  }
}

bool Block::run(dim3 shape, void (*body)(void*), void* argument) {
  count_ = static_cast<int>(shape.x * shape.y * shape.z);
  warps_ = (count_ + lanes - 1) / lanes;
  threads_.resize(static_cast<std::size_t>(count_));
  for (unsigned i = 0; i < static_cast<unsigned>(count_); ++i) {
    Thread& t = threads_[i];
    t.index = {i % shape.x, i / shape.x % shape.y, i / shape.x / shape.y};
    t.fiber = nullptr;
    t.phase = 0;
    t.waits = {};
    t.copies.clear();
    t.group = 0;
  }
  for (int w = 0; w < warps_; ++w) {
    const int width = std::min(lanes, count_ - w * lanes);
    runnable_[w] = exists_[w] = width == lanes ? ~0u : (1u << width) - 1;
    arrived_[w] = 0;
  }
  body_ = body;
  argument_ = argument;
  living_ = count_;
  at_barrier_ = 0;
  failed_ = false;
  fibers_in_use_ = 0;
  current_ = order() == Order::forward   ? 0
             : order() == Order::reverse ? count_ - 1
                                         : static_cast<int>(random()) % count_;
  main_.adopt_current_thread();
  running_ = true;
  release(this);
  go_on(main_, next_thread());
  running_ = false;
  acquire(&living_);
  if (living_ > 0 && !failed_) report_deadlock();
  return living_ == 0;
}

// ---- waiting ----

void Block::barrier(const Site& site) {
  const Unwatched unwatched;
  if (at_barrier_ == 0) barrier_ = site;
  if (barrier_ != site)
    fail("divergent " + to_string(site) + ": other threads wait in " + to_string(barrier_));
  char* const order_here = &barrier_order_[phase_];
  release(order_here);
  thread().waits = site;
  if (++at_barrier_ < count_) {
    wait();
  } else {
    at_barrier_ = 0;
    phase_ ^= 1;
    for (int w = 0; w < warps_; ++w)
      runnable_[w] = exists_[w];
    runnable_[current_ / lanes] &= ~(1u << lane());
  }
  acquire(order_here);
  thread().waits = {};
  ++thread().phase;
}

// Returns true in the last of the lanes to arrive, with the operands of all; in the others when
// that one has computed, false.
bool Block::arrive_in_warp(unsigned mask, void* operands, const Site& site, void** all) {
  Thread& t = thread();
  const int warp = current_ / lanes;
  if ((mask >> lane() & 1) == 0) fail(to_string(site) + ": the mask leaves out the calling lane");
  t.mask = mask;
  t.operands = operands;
  t.waits = site;
  arrived_[warp] |= 1u << lane();
  const unsigned needed = mask & exists_[warp];
  if ((arrived_[warp] & needed) != needed) {
    wait();
    return false;
  }
  for (int l = 0; l < lanes; ++l) {
    if ((needed >> l & 1) == 0) continue;
    Thread& other = threads_[static_cast<std::size_t>(warp * lanes + l)];
    if (other.mask != mask || !(other.waits == site))
      fail("divergent warp: " + to_string(site) + ", but lane " + std::to_string(l) + " is in " +
           to_string(other.waits));
    all[l] = other.operands;
  }
  return true;
}

// All that the lanes did before is to be seen by all of them.
void Block::order_warp(unsigned mask) {
  Thread& t = thread();
  const int warp = current_ / lanes;
  t.parity ^= 1;
  for (int l = 0; l < lanes; ++l) {
    if ((mask & exists_[warp]) >> l & 1) {
      Thread& other = threads_[static_cast<std::size_t>(warp * lanes + l)];
      acquire(&other.brought);
      other.answer = &t.answered[t.parity];
    }
  }
  release(&t.answered[t.parity]);
}

// Lets the others of the mask go on.
void Block::release_warp(unsigned mask) {
  const int warp = current_ / lanes;
  const unsigned needed = mask & exists_[warp];
  arrived_[warp] &= ~needed;
  runnable_[warp] |= needed & ~(1u << lane());
}

// ---- what went wrong ----

static std::string to_string(const uint3& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
         std::to_string(index.z) + ")";
}

std::string where() {
  return "block " + to_string(blockIdx) + ", thread " + to_string(threadIdx);
}

void Block::fail(const std::string& why) {
  std::fprintf(stderr, "cuda (on cpu): %s: %s\n", where().c_str(), why.c_str());
  failed_ = true;
  release(&living_);
  go_on(*thread().fiber, -1);  // this thread and the others are given up
  std::abort();
}

void Block::report_deadlock() const {
  std::fprintf(stderr,
               "cuda (on cpu): block %s: %d of %d threads have ended, the others wait in vain:\n",
               to_string(blockIdx).c_str(), count_ - living_, count_);
  std::map<std::string, std::pair<int, int>> sites;  // how many threads, and the first of them
  for (int i = 0; i < count_; ++i) {
    const Site& site = threads_[static_cast<std::size_t>(i)].waits;
    if (site.what == nullptr) continue;
    auto& [threads, first] = sites.try_emplace(to_string(site), 0, i).first->second;
    ++threads;
  }
  for (const auto& [site, waiting] : sites)
    std::fprintf(stderr, "  %d in %s, the first is thread %s\n", waiting.first, site.c_str(),
                 to_string(threads_[static_cast<std::size_t>(waiting.second)].index).c_str());
}

}  // namespace chalk::cuda::on_cpu
