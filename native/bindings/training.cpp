#include "bindings/convert.h"
#include "bindings/engine.h"
#include "bindings/module.h"
#include "bindings/owned.h"
#include "bindings/terms.h"
#include "train/forward.h"
#include "train/pass.h"

namespace posttrain::bindings {
namespace {

Reply terms_reply(std::vector<losses::Sums> results) {
  return [results = std::move(results)](Napi::Env env) -> Napi::Value {
    auto array = Napi::Array::New(env, results.size());
    for (size_t i = 0; i < results.size(); ++i) {
      auto item = Napi::Object::New(env);
      item.Set("loss", results[i].loss);
      item.Set("count", results[i].count);
      for (const auto& [name, sum] : results[i].more) item.Set(name, sum);
      array.Set(i, item);
    }
    return array;
  };
}

Napi::Value run(const Napi::CallbackInfo& info, bool gradient) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  auto batch = batch_of(info[1]);
  auto terms = terms_of(info[2]);
  const auto given = object_of(info[3], "options");
  const train::BackwardOptions options{
      gradient, number_field(given, "normalizer", 1), boolean_field(given, "checkpointing", false),
      number_field(given, "temperature", 1),
      static_cast<uint64_t>(integer_field(given, "dropoutSeed", 0))};
  auto uses = std::move(terms.uses);
  uses.push_back(role);
  return submit(
      info.Env(), std::move(uses), cancel_of(info[4]),
      [=, batch = std::move(batch), terms = std::move(terms.terms)](const core::Cancel& flag) {
        return terms_reply(train::Pass(*role->object, batch, terms, options, flag).run());
      });
}

Napi::Value backward(const Napi::CallbackInfo& info) { return run(info, true); }

Napi::Value evaluate(const Napi::CallbackInfo& info) { return run(info, false); }

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
  const double temperature = number_field(object_of(info[2], "options"), "temperature", 1);
  return submit(info.Env(), {role}, cancel_of(info[3]),
                [=, batch = std::move(batch)](const core::Cancel& flag) -> Reply {
                  auto result = train::log_probs(*role->object, batch, temperature, flag);
                  return [result = std::move(result)](Napi::Env env) -> Napi::Value {
                    auto object = Napi::Object::New(env);
                    object.Set("logProbs", float64_array(env, result.log_probs));
                    object.Set("entropy", float64_array(env, result.entropy));
                    return object;
                  };
                });
}

using Reading = std::vector<double> (*)(models::Role&, const train::Batch&, const core::Cancel&);

Napi::Value read(const Napi::CallbackInfo& info, Reading reading) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  auto batch = batch_of(info[1]);
  return submit(info.Env(), {role}, cancel_of(info[2]),
                [=, batch = std::move(batch)](const core::Cancel& flag) -> Reply {
                  auto values = reading(*role->object, batch, flag);
                  return [values = std::move(values)](Napi::Env env) -> Napi::Value {
                    return float64_array(env, values);
                  };
                });
}

Napi::Value values(const Napi::CallbackInfo& info) { return read(info, train::values); }

Napi::Value scores(const Napi::CallbackInfo& info) { return read(info, train::scores); }

Napi::Value zero_grad(const Napi::CallbackInfo& info) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  return submit(info.Env(), {role}, nullptr, [role](const core::Cancel&) {
    role->object->zero_grad();
    return undefined_reply();
  });
}

}  // namespace

void register_training(Napi::Env env, Napi::Object exports) {
  exports.Set("backward", method(env, backward));
  exports.Set("evaluate", method(env, evaluate));
  exports.Set("logits", method(env, logits));
  exports.Set("logProbs", method(env, log_probs));
  exports.Set("values", method(env, values));
  exports.Set("scores", method(env, scores));
  exports.Set("zeroGrad", method(env, zero_grad));
}

}  // namespace posttrain::bindings
