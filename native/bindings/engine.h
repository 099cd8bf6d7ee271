#pragma once
#include <napi.h>

#include <memory>
#include <vector>

#include "bindings/job.h"

namespace posttrain::bindings {

/**
 * Queues `work` on the one torch thread of the process and returns its Promise. `uses` are the
 * handles the job needs: they stay alive until it ends, and disposing one cancels it. `cancel` may
 * be null.
 */
Napi::Value submit(Napi::Env env, std::vector<std::shared_ptr<Owned>> uses,
                   std::shared_ptr<core::Cancel> cancel, Work work);

/** Queues the release of an object, so that native memory is always freed on the torch thread. */
void release_later(std::shared_ptr<Owned> object);

/** Cancels the jobs that use `object`, which then reject with ERR_DISPOSED. */
void cancel_users(const std::shared_ptr<Owned>& object);

/** Raises the flag: its waiting jobs reject at once, a running one when it next checks the
 * flag. */
void raise(core::Cancel& cancel);

/** A function of the exports whose C++ exceptions become the rejection of the Promise it returns.
 */
Napi::Function method(Napi::Env env, Napi::Value (*body)(const Napi::CallbackInfo&));
/** Wraps functions that return no Promise: C++ exceptions are thrown as JavaScript errors
 * with a code. */
Napi::Function synchronous_method(Napi::Env env, Napi::Value (*body)(const Napi::CallbackInfo&));

/** Makes this environment a client of the torch thread and registers configure, shutdown and
 * exitNow. */
void register_engine(Napi::Env env, Napi::Object exports);

}  // namespace posttrain::bindings
