#pragma once
#include <napi.h>

#include <memory>

#include "bindings/job.h"

namespace posttrain::bindings {

/** Kinds of handles; the type tag of each comes from its name. */
inline constexpr const char* kBase = "base";
inline constexpr const char* kAdapter = "adapter";
inline constexpr const char* kRole = "role";
inline constexpr const char* kOptimizer = "optimizer";
inline constexpr const char* kSession = "session";

/** An opaque handle, an External of the given kind; its finalizer only posts the release. */
Napi::Value wrap(Napi::Env env, const char* kind, std::shared_ptr<Owned> object);
/** The object behind a handle; throws ERR_INVALID_ARGUMENT for anything else and ERR_DISPOSED after
 * dispose(). */
std::shared_ptr<Owned> unwrap(const Napi::Value& value, const char* kind);

template <class T>
std::shared_ptr<T> unwrap_as(const Napi::Value& value, const char* kind) {
  return std::static_pointer_cast<T>(unwrap(value, kind));
}

/** The optional CancelHandle argument: null when undefined. */
std::shared_ptr<core::Cancel> cancel_of(const Napi::Value& value);

/** Handles now alive, in all environments. */
int64_t live_handles();

/** Registers createCancel, cancel, dispose. */
void register_handles(Napi::Env env, Napi::Object exports);

}  // namespace posttrain::bindings
