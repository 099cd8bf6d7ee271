#pragma once
#include <atomic>
#include <exception>

namespace posttrain::core {

/** Thrown where a job looks at its flag; becomes an AbortError. */
struct Cancelled : std::exception {
  const char* what() const noexcept override { return "cancelled"; }
};

/** A flag per job, looked at between layers, micro-batches and tokens. */
class Cancel {
 public:
  void raise() noexcept { raised_.store(true, std::memory_order_relaxed); }
  bool raised() const noexcept { return raised_.load(std::memory_order_relaxed); }
  void check() const {
    if (raised()) throw Cancelled();
  }

 private:
  std::atomic<bool> raised_{false};
};

}  // namespace posttrain::core
