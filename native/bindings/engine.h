#pragma once
#include <napi.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/cancel.h"

namespace posttrain::bindings {

/** Makes the JavaScript value of a job's result; runs on the JavaScript thread. */
using Reply = std::function<Napi::Value(Napi::Env)>;
/** What a job computes; runs on the torch thread, may throw anything. */
using Work = std::function<Reply(const core::Cancel&)>;

/** Native state behind a JavaScript handle: what a job holds while it runs. */
class Owned {
 public:
  virtual ~Owned() = default;
};

/**
 * Queues `work` on the torch thread and returns its Promise. `uses` are the handles the job needs: they stay alive
 * until it ends, and disposing one cancels it. `cancel` may be null.
 */
Napi::Value submit(Napi::Env env, std::vector<std::shared_ptr<Owned>> uses, std::shared_ptr<core::Cancel> cancel,
                   Work work);

/** An opaque handle (External with the type tag of `kind`) for `object`; its finalizer only posts the release. */
Napi::Value wrap(Napi::Env env, const char* kind, std::shared_ptr<Owned> object);
/** The object behind a handle; throws ERR_INVALID_ARGUMENT for anything else and ERR_DISPOSED after dispose(). */
std::shared_ptr<Owned> unwrap(const Napi::Value& value, const char* kind);

template <class T>
std::shared_ptr<T> unwrap_as(const Napi::Value& value, const char* kind) {
  return std::static_pointer_cast<T>(unwrap(value, kind));
}

/** The optional CancelHandle argument: null when undefined. */
std::shared_ptr<core::Cancel> cancel_of(const Napi::Value& value);

/** Registers configure, info, createCancel, cancel, dispose, shutdown, exitNow. */
void register_engine(Napi::Env env, Napi::Object exports);

}  // namespace posttrain::bindings
