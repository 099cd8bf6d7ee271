#pragma once
#include <napi.h>

#include <exception>
#include <string>

namespace posttrain::bindings {

/** What JavaScript learns of a C++ exception: a stable code and one sentence without the C++ backtrace. */
struct Failure {
  std::string code;
  std::string message;
};

Failure failure_of(const std::exception_ptr& exception);
/** An Error with that code; name AbortError for ABORT_ERR. */
Napi::Value error_of(Napi::Env env, const Failure& failure);

}  // namespace posttrain::bindings
