// Steps of the optimizer on plain arrays.
#include "test_hooks/optim.h"

#include "bindings/convert.h"
#include "bindings/engine.h"
#include "core/dynamic_code.h"
#include "optim/blockwise.h"
#include "optim/half_moments.h"

namespace posttrain::bindings {
namespace {

at::Tensor tensor_of(std::vector<float> values) { return at::tensor(values, at::kFloat); }

Napi::Value array_of(Napi::Env env, const at::Tensor& tensor) {
  const auto wide = tensor.to(at::kFloat).contiguous();
  return float32_array(env, wide.const_data_ptr<float>(), static_cast<size_t>(wide.numel()));
}

optim::AdamWStep step_of(const Napi::Object& options, uint32_t i) {
  return {number_field(options, "learningRate"), number_field(options, "weightDecay"),
          number_field(options, "beta1"),        number_field(options, "beta2"),
          number_field(options, "eps"),          int64_t{i} + 1,
          number_field(options, "gradScale")};
}

// adamwBlockwise(values, grads of every step, { learningRate, weightDecay, beta1, beta2, eps,
// gradScale, byOperations }): what every step leaves
Napi::Value adamw_blockwise(const Napi::CallbackInfo& info) {
  auto value = tensor_of(floats_of(info[0], "values"));
  const auto grads = info[1].As<Napi::Array>();
  const auto options = object_of(info[2], "options");
  const bool by_operations = boolean_field(options, "byOperations");
  auto first = optim::zero_state(value, true), second = optim::zero_state(value, false);
  auto result = Napi::Array::New(info.Env());
  for (uint32_t i = 0; i < grads.Length(); ++i) {
    const auto grad = tensor_of(floats_of(grads.Get(i), "grads"));
    const auto update =
        by_operations ? optim::adamw_blockwise_by_operations : optim::adamw_blockwise;
    update(value, grad, first, second, step_of(options, i));
    auto after = Napi::Object::New(info.Env());
    after.Set("value", array_of(info.Env(), value));
    after.Set("first.codes", array_of(info.Env(), first.codes));
    after.Set("first.scales", array_of(info.Env(), first.scales));
    after.Set("second.codes", array_of(info.Env(), second.codes));
    after.Set("second.scales", array_of(info.Env(), second.scales));
    result.Set(i, after);
  }
  return result;
}

// adamwHalfMoments(values, grads of every step, { ... as above }): what every step leaves
Napi::Value adamw_half_moments(const Napi::CallbackInfo& info) {
  auto value = tensor_of(floats_of(info[0], "values"));
  const auto grads = info[1].As<Napi::Array>();
  const auto options = object_of(info[2], "options");
  auto first = at::zeros_like(value, at::kBFloat16), second = at::zeros_like(value, at::kBFloat16);
  auto result = Napi::Array::New(info.Env());
  for (uint32_t i = 0; i < grads.Length(); ++i) {
    const auto grad = tensor_of(floats_of(grads.Get(i), "grads"));
    const auto update = boolean_field(options, "byOperations")
                            ? optim::adamw_half_moments_by_operations
                            : optim::adamw_half_moments;
    update(value, grad, first, second, step_of(options, i), 7);
    auto after = Napi::Object::New(info.Env());
    after.Set("value", array_of(info.Env(), value));
    after.Set("first", array_of(info.Env(), first));
    after.Set("second", array_of(info.Env(), second));
    result.Set(i, after);
  }
  return result;
}

Napi::Value dynamic_code(const Napi::CallbackInfo& info) {
  return array_of(info.Env(), core::DynamicCode::of(info[0].ToBoolean()).tensor());
}

}  // namespace

void add_optim_hooks(Napi::Env env, Napi::Object hooks) {
  hooks.Set("adamwBlockwise", synchronous_method(env, adamw_blockwise));
  hooks.Set("adamwHalfMoments", synchronous_method(env, adamw_half_moments));
  hooks.Set("dynamicCode", synchronous_method(env, dynamic_code));
}

}  // namespace posttrain::bindings
