#pragma once
#include <napi.h>

namespace posttrain::bindings {

void register_models(Napi::Env env, Napi::Object exports);
void register_training(Napi::Env env, Napi::Object exports);
void register_optim(Napi::Env env, Napi::Object exports);
void register_generation(Napi::Env env, Napi::Object exports);
void register_losses(Napi::Env env, Napi::Object exports);

}  // namespace posttrain::bindings
