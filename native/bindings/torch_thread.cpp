#include "bindings/torch_thread.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <chrono>

#include "core/cpu_cores.h"
#include "core/cuda_devices.h"
#include "core/error.h"

namespace posttrain::bindings {
namespace {

Failure cancelled(const Job& job) {
  if (job.disposed) {
    return {core::ErrorCode::disposed,
            "the model, optimizer or session was disposed while the call was under way"};
  }
  return aborted();
}

}  // namespace

TorchThread& TorchThread::instance() {
  static auto* thread = new TorchThread();
  return *thread;
}

void TorchThread::post(std::shared_ptr<Job> job) {
  {
    const std::lock_guard lock(mutex_);
    if (ended_)
      throw core::Error(core::ErrorCode::disposed,
                        "the process is exiting: no further work is accepted");
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    queue_.push_back(std::move(job));
  }
  wake_.notify_all();
}

void TorchThread::cancel_if(const std::function<bool(Job&)>& matches) {
  std::vector<std::shared_ptr<Job>> rejected;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& job : queue_) {
      if (job->settled || !matches(*job)) continue;
      job->cancel->raise();
      job->settled = true;
      job->failure = cancelled(*job);
      rejected.push_back(job);
    }
    if (running_ != nullptr && matches(*running_)) running_->cancel->raise();
  }
  for (const auto& job : rejected) settle(job);
}

void TorchThread::await_client(const Client* client) {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [&] { return running_ == nullptr || running_->client.get() != client; });
}

bool TorchThread::shutdown(int64_t timeout_ms) {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    for (const auto& job : queue_) job->cancel->raise();
    if (running_ != nullptr) running_->cancel->raise();
    if (!thread_.joinable()) return true;
  }
  wake_.notify_all();
  std::unique_lock lock(mutex_);
  if (!idle_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return finished_; }))
    return false;
  lock.unlock();
  thread_.join();
  return true;
}

void TorchThread::set_threads(int64_t threads) {
  const std::lock_guard lock(mutex_);
  TORCH_CHECK_VALUE(threads >= 1 && threads <= 4096,
                    "[configure] threads must be between 1 and 4096, got ", threads);
  TORCH_CHECK_VALUE(threads_ == 0 || threads_ == threads, "[configure] threads is already ",
                    threads_, " in this process and cannot become ", threads,
                    "; set it before the first call");
  threads_ = threads;
}

void TorchThread::run() {
  std::unique_lock lock(mutex_);
  if (threads_ == 0) threads_ = core::default_threads();
  at::set_num_threads(static_cast<int>(threads_));
  while (true) {
    wake_.wait(lock, [&] { return ended_ || !queue_.empty(); });
    if (ended_) break;
    auto job = std::move(queue_.front());
    queue_.pop_front();
    const bool waiting = !job->settled;
    if (waiting) running_ = job;
    lock.unlock();
    if (waiting) execute(*job);
    job->work = nullptr;
    job->uses.clear();
    lock.lock();
    running_ = nullptr;
    idle_.notify_all();
    lock.unlock();
    if (waiting) settle(job);
    job.reset();
    lock.lock();
  }
  finished_ = true;
  idle_.notify_all();
}

void TorchThread::execute(Job& job) {
  try {
    job.cancel->check();
    job.reply = job.work(*job.cancel);
  } catch (const core::Cancelled&) {
    job.failure = cancelled(job);
  } catch (...) {
    job.failure = failure_of(std::current_exception());
  }
  try {
    job.device_bytes = core::cuda_allocated_bytes();
  } catch (...) {
    // A device that is lost tells nothing.
  }
}

}  // namespace posttrain::bindings
