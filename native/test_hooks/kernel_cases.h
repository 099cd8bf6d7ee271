#pragma once
#include <napi.h>

namespace posttrain::bindings {

void add_kernel_hooks(Napi::Env env, Napi::Object hooks);

}  // namespace posttrain::bindings
