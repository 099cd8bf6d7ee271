#pragma once
#include <napi.h>

namespace posttrain::bindings {

void add_launch_hooks(Napi::Env env, Napi::Object hooks);

}  // namespace posttrain::bindings
