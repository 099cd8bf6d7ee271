#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "bindings/job.h"

namespace posttrain::bindings {

/** Delivers the job's outcome to its environment; callable from any thread. */
void settle(const std::shared_ptr<Job>& job);

/** The one thread of the process that calls torch, and its queue: first in, first out. */
class TorchThread {
 public:
  // Never destroyed: at exit its thread may still be waiting inside it.
  static TorchThread& instance();

  /** Throws ERR_DISPOSED when the process is exiting. The first call starts the thread. */
  void post(std::shared_ptr<Job> job);

  /**
   * Raises the flag of every job that `matches`. Waiting jobs reject at once, the running one
   * when it next checks its flag. Objects of a waiting job are still released on the torch thread,
   * when its turn comes.
   */
  void cancel_if(const std::function<bool(Job&)>& matches);

  /** Waits until no job of that client runs. */
  void await_client(const Client* client);

  /** Cancels everything and joins the thread for at most `timeout_ms`; false if a job is still
   * running. */
  bool shutdown(int64_t timeout_ms);

  /** Sets the number of torch's threads, once per process; throws if another number is already set.
   */
  void set_threads(int64_t threads);

 private:
  void run();
  static void execute(Job& job);

  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<std::shared_ptr<Job>> queue_;
  std::shared_ptr<Job> running_;
  std::thread thread_;
  int64_t threads_ = 0;
  bool ended_ = false;
  bool finished_ = false;
};

}  // namespace posttrain::bindings
