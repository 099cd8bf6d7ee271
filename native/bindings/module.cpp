#include "bindings/module.h"

#include <mutex>

#include "bindings/engine.h"
#include "bindings/errors.h"
#include "bindings/handle.h"
#include "core/allocator.h"

namespace posttrain::bindings {
namespace {

void register_all(Napi::Env env, Napi::Object exports) {
  register_engine(env, exports);
  register_handles(env, exports);
  register_files(env, exports);
  register_info(env, exports);
  register_models(env, exports);
  register_adapters(env, exports);
  register_training(env, exports);
  register_optim(env, exports);
  register_generation(env, exports);
  register_losses(env, exports);
  register_rollout(env, exports);
  if (register_test_hooks != nullptr) register_test_hooks(env, exports);
}

}  // namespace
}  // namespace posttrain::bindings

/** Entry point: the stub calls it once per environment, after opening libtorch and this library. */
extern "C" __attribute__((visibility("default"))) napi_value
posttrain_core_init(napi_env env, napi_value exports) {
  using namespace posttrain;
  static std::once_flag once;
  try {
    std::call_once(once, core::install_allocator);
    bindings::register_all(Napi::Env(env), Napi::Object(env, exports));
    return exports;
  } catch (const Napi::Error& error) {
    error.ThrowAsJavaScriptException();
  } catch (...) {
    napi_throw(env, bindings::error_of(env, bindings::failure_of(std::current_exception())));
  }
  return nullptr;
}
