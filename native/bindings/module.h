#pragma once
#include <napi.h>

namespace posttrain::bindings {

// The exports of the core, room by room. Each adds its functions to `exports`.
void register_files(Napi::Env env, Napi::Object exports);
void register_info(Napi::Env env, Napi::Object exports);
void register_models(Napi::Env env, Napi::Object exports);
void register_adapters(Napi::Env env, Napi::Object exports);
void register_training(Napi::Env env, Napi::Object exports);
void register_optim(Napi::Env env, Napi::Object exports);
void register_generation(Napi::Env env, Napi::Object exports);
void register_losses(Napi::Env env, Napi::Object exports);
void register_rollout(Napi::Env env, Napi::Object exports);
/** Only in the library of the test hooks, which is never packed; null elsewhere. */
__attribute__((weak)) void register_test_hooks(Napi::Env env, Napi::Object exports);

}  // namespace posttrain::bindings
