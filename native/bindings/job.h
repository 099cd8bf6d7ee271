#pragma once
#include <napi.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "bindings/errors.h"
#include "core/cancel.h"

namespace posttrain::bindings {

/** Makes the JavaScript value of a job's result; runs on the JavaScript thread. */
using Reply = std::function<Napi::Value(Napi::Env)>;
/** Body of a job; runs on the torch thread and may throw anything. */
using Work = std::function<Reply(const core::Cancel&)>;

/** Native state behind a JavaScript handle; jobs that use it keep it alive. */
class Owned {
 public:
  virtual ~Owned() = default;
};

struct Client;

struct Job {
  std::shared_ptr<Client> client;  // null: a release without a Promise
  napi_deferred deferred = nullptr;
  std::vector<std::shared_ptr<Owned>> uses;
  std::shared_ptr<core::Cancel> cancel = std::make_shared<core::Cancel>();
  std::atomic<bool> disposed{false};  // cancelled by dispose(), not by the caller
  bool settled = false;               // rejected while queued; guarded by the queue's mutex
  Work work;
  Reply reply;
  std::optional<Failure> failure;
  /** What its devices held when it ended; their allocators may not be asked on the JavaScript
   * thread, which would wait for a lock. */
  int64_t device_bytes = 0;
};

}  // namespace posttrain::bindings
