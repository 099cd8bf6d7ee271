#include "bindings/convert.h"
#include "bindings/module.h"
#include "bindings/owned.h"
#include "train/step.h"

namespace posttrain::bindings {
namespace {

std::vector<losses::LossTerm> terms_of(const Napi::Value& value) {
  TORCH_CHECK_VALUE(value.IsArray(), "[backward] terms must be an array");
  const auto array = value.As<Napi::Array>();
  std::vector<losses::LossTerm> terms;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto object = object_of(array.Get(i), "terms[i]");
    const auto kind = string_field(object, "kind");
    TORCH_CHECK_VALUE(kind == "crossEntropy", "[backward] there is no loss term of kind ", kind);
    terms.emplace_back(losses::CrossEntropyTerm{number_field(object, "coefficient", 1.0),
                                                integer_field(object, "ignoreIndex", -100)});
  }
  return terms;
}

Reply terms_reply(std::vector<train::TermResult> results) {
  return [results = std::move(results)](Napi::Env env) -> Napi::Value {
    auto array = Napi::Array::New(env, results.size());
    for (size_t i = 0; i < results.size(); ++i) {
      auto item = Napi::Object::New(env);
      item.Set("loss", results[i].loss);
      item.Set("count", results[i].count);
      item.Set("correct", results[i].correct);
      item.Set("entropy", results[i].entropy);
      item.Set("labels", results[i].labels);
      array.Set(i, item);
    }
    return array;
  };
}

Napi::Value run(const Napi::CallbackInfo& info, const train::BackwardOptions& options,
                const Napi::Value& cancel) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  auto batch = batch_of(info[1]);
  auto terms = terms_of(info[2]);
  return submit(info.Env(), {role}, cancel_of(cancel),
                [=, batch = std::move(batch), terms = std::move(terms)](const core::Cancel& flag) {
                  return terms_reply(train::run_terms(*role->object, batch, terms, options, flag));
                });
}

Napi::Value backward(const Napi::CallbackInfo& info) {
  const auto options = object_of(info[3], "options");
  return run(
      info,
      {true, number_field(options, "normalizer"), boolean_field(options, "checkpointing", false)},
      info[4]);
}

Napi::Value evaluate(const Napi::CallbackInfo& info) {
  return run(info, {.gradient = false}, info[3]);
}

Napi::Value logits(const Napi::CallbackInfo& info) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  auto batch = batch_of(info[1]);
  return submit(info.Env(), {role}, cancel_of(info[2]),
                [=, batch = std::move(batch)](const core::Cancel& flag) -> Reply {
                  const auto values = train::logits(*role->object, batch, flag);
                  return [values](Napi::Env env) -> Napi::Value {
                    return float32_array(env, values.const_data_ptr<float>(), values.numel());
                  };
                });
}

Napi::Value log_probs(const Napi::CallbackInfo& info) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  auto batch = batch_of(info[1]);
  return submit(info.Env(), {role}, cancel_of(info[2]),
                [=, batch = std::move(batch)](const core::Cancel& flag) -> Reply {
                  auto values = train::log_probs(*role->object, batch, flag);
                  return [values = std::move(values)](Napi::Env env) -> Napi::Value {
                    return float32_array(env, values.data(), values.size());
                  };
                });
}

Napi::Value zero_grad(const Napi::CallbackInfo& info) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  return submit(info.Env(), {role}, nullptr, [role](const core::Cancel&) {
    role->object->base->zero_grad();
    return undefined_reply();
  });
}

}  // namespace

void register_training(Napi::Env env, Napi::Object exports) {
  exports.Set("backward", method(env, backward));
  exports.Set("evaluate", method(env, evaluate));
  exports.Set("logits", method(env, logits));
  exports.Set("logProbs", method(env, log_probs));
  exports.Set("zeroGrad", method(env, zero_grad));
}

}  // namespace posttrain::bindings
