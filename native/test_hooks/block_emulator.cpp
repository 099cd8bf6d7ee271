// _longjmp between fibers is taken for an error by the checks of a fortified library.
#undef _FORTIFY_SOURCE
#include "test_hooks/block_emulator.h"

#include <setjmp.h>
#include <ucontext.h>

#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <stdexcept>
#include <vector>

namespace posttrain::emulator {

Index thread, block, block_size, grid_size;

namespace {

constexpr size_t kStack = 64 << 10, kGuard = 64;

/** Registered before main, in an order that is not known. */
std::map<std::string, const Kernel*>& kernels() {
  static std::map<std::string, const Kernel*> all;
  return all;
}

/** Threads that wait for the others of theirs, `size` of them. */
struct Meeting {
  unsigned size = 0, arrived = 0, round = 0;
  bool value[2] = {};       // of the rounds in turn
  float lanes[2][32] = {};  // likewise

  /** The thread's round, which is over when `round` has moved on. */
  unsigned arrive() {
    const unsigned mine = round;
    if (++arrived == size) {
      arrived = 0;
      ++round;
      value[round % 2] = false;
    }
    return mine;
  }
};

/** A stack on which threads run, one after another where they do not wait. */
struct Fiber {
  ucontext_t start;
  jmp_buf place;
  bool started = false, waits = false;
  Index of_thread;
  std::unique_ptr<char[]> stack{new char[kStack]};
};

/** The block that runs. */
struct Block {
  const Kernel* kernel = nullptr;
  const void* arguments = nullptr;
  unsigned next = 0, finished = 0;
  Meeting all;
  std::vector<Meeting> warps;
  std::vector<float> memory;
  // Elements keep their place.
  std::deque<Fiber> fibers;
  Fiber* running = nullptr;
  jmp_buf scheduler;
  bool misaligned = false;
} current;

void pause() {
  if (_setjmp(current.running->place) == 0) _longjmp(current.scheduler, 1);
}

void run_threads() {
  for (;;) {
    while (current.next < block_size.x) {
      thread = {current.next++, 0, 0};
      current.kernel->run(current.arguments);
      ++current.finished;
    }
    pause();
  }
}

void resume(Fiber& fiber) {
  current.running = &fiber;
  if (_setjmp(current.scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.place, 1);
  fiber.started = true;
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = kStack;
  fiber.start.uc_link = nullptr;
  makecontext(&fiber.start, run_threads, 0);
  setcontext(&fiber.start);
}

unsigned meet(Meeting& meeting) {
  const unsigned mine = meeting.arrive();
  auto& fiber = *current.running;
  while (meeting.round == mine) {
    fiber.waits = true;
    fiber.of_thread = thread;
    pause();
    thread = fiber.of_thread;
  }
  fiber.waits = false;
  return mine;
}

unsigned rounds() {
  unsigned sum = current.all.round;
  for (const auto& warp : current.warps) sum += warp.round;
  return sum;
}

[[noreturn]] void fail(const std::string& what) {
  current.fibers.clear();
  throw std::runtime_error("block emulator: " + what);
}

void run_block() {
  current.next = current.finished = 0;
  current.all = {block_size.x};
  current.warps.assign(block_size.x / 32, {32});
  while (current.finished < block_size.x) {
    const unsigned before = rounds() + current.finished + current.next;
    // Those that wait go on first, so that few stacks are used.
    for (auto& fiber : current.fibers)
      if (fiber.waits) resume(fiber);
    while (current.next < block_size.x) {
      Fiber* idle = nullptr;
      for (auto& fiber : current.fibers)
        if (!fiber.waits) idle = &fiber;
      resume(idle != nullptr ? *idle : current.fibers.emplace_back());
    }
    if (rounds() + current.finished + current.next == before)
      fail("not all threads reach a barrier");
  }
}

}  // namespace

Kernel::Kernel(const char* name, int most_threads, void (*run)(const void*))
    : most_threads(most_threads), run(run) {
  kernels()[name] = this;
}

const Kernel* Kernel::find(const std::string& name) {
  const auto found = kernels().find(name);
  return found == kernels().end() ? nullptr : found->second;
}

void launch(const Kernel& kernel, Index grid, Index threads, size_t shared_bytes,
            const void* arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) fail("an empty grid");
  if (grid.y > 65535 || grid.z > 65535) fail("a grid that is too large");
  if (threads.x == 0 || threads.x % 32 != 0 || threads.y != 1 || threads.z != 1)
    fail("threads that are no whole warps");
  if (threads.x > static_cast<unsigned>(kernel.most_threads)) fail("more threads than registers");
  if (shared_bytes > 47 << 10) fail("more memory than a block has");
  current.kernel = &kernel;
  current.arguments = arguments;
  grid_size = grid;
  block_size = threads;
  const size_t floats = (shared_bytes + 3) / 4;
  for (block.y = 0; block.y < grid.y; ++block.y) {
    for (block.x = 0; block.x < grid.x; ++block.x) {
      current.memory.assign(floats + kGuard, std::numeric_limits<float>::quiet_NaN());
      run_block();
      if (current.misaligned) {
        current.misaligned = false;
        fail("words written to an address that is not theirs");
      }
      for (size_t i = floats; i < current.memory.size(); ++i)
        if (!std::isnan(current.memory[i])) fail("the memory of a block is overrun");
    }
  }
}

void written(const void* to, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(to) % bytes != 0) current.misaligned = true;
}

float* block_memory() { return current.memory.data(); }

bool barrier(bool value) {
  auto& all = current.all;
  if (value) all.value[all.round % 2] = true;
  const unsigned mine = meet(all);
  return all.value[mine % 2];
}

float exchange(float value, int lane) {
  auto& warp = current.warps[thread.x / 32];
  warp.lanes[warp.round % 2][thread.x % 32] = value;
  const unsigned mine = meet(warp);
  return warp.lanes[mine % 2][lane];
}

}  // namespace posttrain::emulator
