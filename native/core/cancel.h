#pragma once
#include <atomic>
#include <exception>
#include <memory>

namespace posttrain::core {

/** Thrown where a job checks its raised flag; becomes an AbortError. */
struct Cancelled : std::exception {
  const char* what() const noexcept override { return "cancelled"; }
};

/** Cancel flag of a job, checked between layers, micro-batches and tokens; a parent raises it too.
 */
class Cancel {
 public:
  Cancel() = default;
  explicit Cancel(std::shared_ptr<const Cancel> parent) : parent_(std::move(parent)) {}
  void raise() noexcept { raised_.store(true, std::memory_order_relaxed); }
  bool raised() const noexcept {
    return raised_.load(std::memory_order_relaxed) || (parent_ != nullptr && parent_->raised());
  }
  void check() const {
    if (raised()) throw Cancelled();
  }

 private:
  std::atomic<bool> raised_{false};
  std::shared_ptr<const Cancel> parent_;
};

}  // namespace posttrain::core
