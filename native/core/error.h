#pragma once
#include <stdexcept>
#include <string>

namespace posttrain::core {

/** Error codes that JavaScript sees. */
enum class ErrorCode {
  aborted,
  invalid_argument,
  invalid_file,
  out_of_memory,
  non_finite,
  disposed,
  libtorch_version,
  libtorch_load,
  unsupported_device,
  device_lost,
  io,
  internal,
};

/** Its name in lib/errors.ts. */
constexpr const char* name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::aborted:
      return "ABORT_ERR";
    case ErrorCode::invalid_argument:
      return "ERR_INVALID_ARGUMENT";
    case ErrorCode::invalid_file:
      return "ERR_INVALID_FILE";
    case ErrorCode::out_of_memory:
      return "ERR_OUT_OF_MEMORY";
    case ErrorCode::non_finite:
      return "ERR_NON_FINITE";
    case ErrorCode::disposed:
      return "ERR_DISPOSED";
    case ErrorCode::libtorch_version:
      return "ERR_LIBTORCH_VERSION";
    case ErrorCode::libtorch_load:
      return "ERR_LIBTORCH_LOAD";
    case ErrorCode::unsupported_device:
      return "ERR_UNSUPPORTED_DEVICE";
    case ErrorCode::device_lost:
      return "ERR_DEVICE_LOST";
    case ErrorCode::io:
      return "ERR_IO";
    case ErrorCode::internal:
      break;
  }
  return "ERR_INTERNAL";
}

/** An error whose code reaches JavaScript unchanged. */
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace posttrain::core
