#include "bindings/module.h"

#include <mutex>

#include "bindings/engine.h"
#include "bindings/handle.h"
#include "core/allocator.h"

/** What the stub calls once per environment after it has opened libtorch and this library. */
extern "C" __attribute__((visibility("default"))) napi_value posttrain_core_init(napi_env env_value, napi_value exports_value) {
  using namespace posttrain;
  static std::once_flag once;
  std::call_once(once, core::install_allocator);
  const Napi::Env env(env_value);
  const Napi::Object exports(env_value, exports_value);
  bindings::register_engine(env, exports);
  bindings::register_handles(env, exports);
  bindings::register_models(env, exports);
  bindings::register_training(env, exports);
  bindings::register_optim(env, exports);
  bindings::register_generation(env, exports);
  bindings::register_losses(env, exports);
  return exports;
}
