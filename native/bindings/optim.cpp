#include "bindings/convert.h"
#include "bindings/engine.h"
#include "bindings/module.h"
#include "bindings/owned.h"

namespace posttrain::bindings {
namespace {

Napi::Value create_optimizer(const Napi::CallbackInfo& info) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  const auto object = object_of(info[1], "options");
  const auto decay = string_field(object, "decay");
  TORCH_CHECK_VALUE(decay == "all" || decay == "matrices",
                    "[adamw] decay must be all or matrices, got ", decay);
  const auto moments = string_field(object, "moments");
  TORCH_CHECK_VALUE(moments == "float32" || moments == "bfloat16" || moments == "8bit",
                    "[adamw] moments must be float32, bfloat16 or 8bit, got ", moments);
  const optim::AdamWOptions options{number_field(object, "beta1"),
                                    number_field(object, "beta2"),
                                    number_field(object, "eps"),
                                    number_field(object, "weightDecay"),
                                    decay == "matrices",
                                    moments == "8bit"       ? optim::Moments::bits8
                                    : moments == "bfloat16" ? optim::Moments::bfloat16
                                                            : optim::Moments::exact};
  return submit(info.Env(), {role}, nullptr, [role, options](const core::Cancel&) {
    return handle_reply(kOptimizer, std::make_shared<optim::AdamW>(role->object, options));
  });
}

Napi::Value optimizer_step(const Napi::CallbackInfo& info) {
  const auto optimizer = unwrap_as<OwnedOptimizer>(info[0], kOptimizer);
  const auto options = object_of(info[1], "options");
  const double learning_rate = number_field(options, "learningRate"),
               max_grad_norm = number_field(options, "maxGradNorm");
  return submit(info.Env(), {optimizer}, nullptr, [=](const core::Cancel&) -> Reply {
    const auto step = optimizer->object->step(learning_rate, max_grad_norm);
    return [step](Napi::Env env) -> Napi::Value {
      auto result = Napi::Object::New(env);
      result.Set("gradNorm", step.grad_norm);
      result.Set("applied", step.applied);
      return result;
    };
  });
}

Napi::Value save_optimizer(const Napi::CallbackInfo& info) {
  const auto optimizer = unwrap_as<OwnedOptimizer>(info[0], kOptimizer);
  const auto path = string_of(info[1], "path");
  return submit(info.Env(), {optimizer}, cancel_of(info[2]), [=](const core::Cancel& cancel) {
    optimizer->object->save(path, cancel);
    return undefined_reply();
  });
}

Napi::Value load_optimizer(const Napi::CallbackInfo& info) {
  const auto optimizer = unwrap_as<OwnedOptimizer>(info[0], kOptimizer);
  const auto path = string_of(info[1], "path");
  return submit(info.Env(), {optimizer}, cancel_of(info[2]), [=](const core::Cancel& cancel) {
    optimizer->object->load(path, cancel);
    return undefined_reply();
  });
}

}  // namespace

void register_optim(Napi::Env env, Napi::Object exports) {
  exports.Set("createOptimizer", method(env, create_optimizer));
  exports.Set("optimizerStep", method(env, optimizer_step));
  exports.Set("saveOptimizer", method(env, save_optimizer));
  exports.Set("loadOptimizer", method(env, load_optimizer));
}

}  // namespace posttrain::bindings
