#pragma once
#include <node_api.h>

#include <exception>
#include <string>

#include "core/error.h"

namespace posttrain::bindings {

/** A C++ exception as JavaScript sees it: a stable code and one sentence without the C++
 * backtrace. */
struct Failure {
  core::ErrorCode code;
  std::string message;
};

/** Failure of a call whose signal was raised. */
Failure aborted();
/** The one place that knows which exception has which code; anything unknown is ERR_INTERNAL.
 * Throws nothing. */
Failure failure_of(const std::exception_ptr& exception);
/** An Error with that code; its name is AbortError where the call was aborted. Null in an
 * environment that is being ended. */
napi_value error_of(napi_env env, const Failure& failure);

}  // namespace posttrain::bindings
