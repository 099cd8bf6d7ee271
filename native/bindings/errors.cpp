#include "bindings/errors.h"

#include <c10/util/Exception.h>
#include <napi.h>

#include <new>

#include "core/cancel.h"

namespace posttrain::bindings {
namespace {

bool tells_of_memory(const std::string& text) {
  return text.find("not enough memory") != std::string::npos ||
         text.find("out of memory") != std::string::npos ||
         text.find("can't allocate memory") != std::string::npos ||
         text.find("CUBLAS_STATUS_ALLOC_FAILED") != std::string::npos ||
         text.find("CUDNN_STATUS_ALLOC_FAILED") != std::string::npos ||
         text.find("Array buffer allocation failed") != std::string::npos;
}

/** A fault after which every call to the device fails, as long as the process lives. */
bool tells_of_lost_device(const std::string& text) {
  if (text.find("CUDA error") == std::string::npos) return false;
  for (const char* fault :
       {"illegal memory access", "device-side assert", "unspecified launch failure",
        "misaligned address", "illegal instruction", "invalid program counter",
        "hardware stack error", "launch timed out", "uncorrectable ECC error", "unrecoverable",
        "driver shutting down"}) {
    if (text.find(fault) != std::string::npos) return true;
  }
  return false;
}

Failure out_of_memory(const std::string& text) {
  return {core::ErrorCode::out_of_memory, text +
                                              " (use a smaller batchSize or maxLength, more "
                                              "gradientAccumulation, or activationCheckpointing)"};
}

}  // namespace

Failure aborted() { return {core::ErrorCode::aborted, "The operation was aborted"}; }

Failure failure_of(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const core::Cancelled&) {
    return aborted();
  } catch (const core::Error& error) {
    return {error.code(), error.what()};
  } catch (const c10::OutOfMemoryError& error) {
    return out_of_memory(error.what_without_backtrace());
  } catch (const c10::ValueError& error) {
    return {core::ErrorCode::invalid_argument, error.what_without_backtrace()};
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    if (tells_of_memory(text)) return out_of_memory(text);
    if (tells_of_lost_device(text)) {
      return {core::ErrorCode::device_lost,
              text.substr(0, text.find('\n')) +
                  " (the device is lost to this process: start a new one and resume from a "
                  "checkpoint)"};
    }
    return {core::ErrorCode::internal, text};
  } catch (const std::bad_alloc&) {
    return out_of_memory("the system is out of memory");
  } catch (const Napi::Error& error) {
    const std::string text = error.Message();
    if (tells_of_memory(text)) return out_of_memory(text);
    return {core::ErrorCode::internal, text};
  } catch (const std::exception& error) {
    if (tells_of_memory(error.what())) return out_of_memory(error.what());
    return {core::ErrorCode::internal, error.what()};
  } catch (...) {
    return {core::ErrorCode::internal, "an exception of an unknown type"};
  }
}

napi_value error_of(napi_env env, const Failure& failure) {
  napi_value code = nullptr, message = nullptr, error = nullptr, name = nullptr;
  napi_create_string_utf8(env, core::name_of(failure.code), NAPI_AUTO_LENGTH, &code);
  napi_create_string_utf8(env, failure.message.data(), failure.message.size(), &message);
  napi_create_error(env, code, message, &error);
  if (failure.code == core::ErrorCode::aborted) {
    napi_create_string_utf8(env, "AbortError", NAPI_AUTO_LENGTH, &name);
    napi_set_named_property(env, error, "name", name);
  }
  return error;
}

}  // namespace posttrain::bindings
