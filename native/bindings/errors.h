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

/** Failure of a call whose signal was aborted. */
Failure aborted();
/** Maps every exception to its code, in this one place; unknown ones are ERR_INTERNAL. Does not
 * throw. */
Failure failure_of(const std::exception_ptr& exception);
/** An Error with that code; its name is AbortError where the call was aborted. Null in an
 * environment that is shutting down. */
napi_value error_of(napi_env env, const Failure& failure);

}  // namespace posttrain::bindings
