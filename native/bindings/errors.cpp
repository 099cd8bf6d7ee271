#include "bindings/errors.h"

#include <c10/util/Exception.h>
#include <napi.h>

#include <new>

#include "core/cancel.h"
#include "core/error.h"

namespace posttrain::bindings {
namespace {

bool tells_of_memory(const std::string& text) {
  return text.find("not enough memory") != std::string::npos ||
         text.find("out of memory") != std::string::npos ||
         text.find("can't allocate memory") != std::string::npos ||
         text.find("Array buffer allocation failed") != std::string::npos;
}

Failure out_of_memory(const std::string& text) {
  return {"ERR_OUT_OF_MEMORY", text +
                                   " (use a smaller batchSize or maxLength, more "
                                   "gradientAccumulation, or checkpointing: true)"};
}

}  // namespace

Failure failure_of(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const core::Cancelled&) {
    return {"ABORT_ERR", "The operation was aborted"};
  } catch (const core::Error& error) {
    return {error.code(), error.what()};
  } catch (const c10::OutOfMemoryError& error) {
    return out_of_memory(error.what_without_backtrace());
  } catch (const c10::ValueError& error) {
    return {"ERR_INVALID_ARGUMENT", error.what_without_backtrace()};
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    if (tells_of_memory(text)) return out_of_memory(text);
    return {"ERR_INTERNAL", text};
  } catch (const std::bad_alloc&) {
    return out_of_memory("the system has not enough memory");
  } catch (const Napi::Error& error) {
    const std::string text = error.Message();
    if (tells_of_memory(text)) return out_of_memory(text);
    return {"ERR_INTERNAL", text};
  } catch (const std::exception& error) {
    if (tells_of_memory(error.what())) return out_of_memory(error.what());
    return {"ERR_INTERNAL", error.what()};
  } catch (...) {
    return {"ERR_INTERNAL", "an exception of an unknown type"};
  }
}

napi_value error_of(napi_env env, const Failure& failure) {
  napi_value code = nullptr, message = nullptr, error = nullptr, name = nullptr;
  napi_create_string_utf8(env, failure.code.data(), failure.code.size(), &code);
  napi_create_string_utf8(env, failure.message.data(), failure.message.size(), &message);
  napi_create_error(env, code, message, &error);
  if (failure.code == "ABORT_ERR") {
    napi_create_string_utf8(env, "AbortError", NAPI_AUTO_LENGTH, &name);
    napi_set_named_property(env, error, "name", name);
  }
  return error;
}

}  // namespace posttrain::bindings
