#include "bindings/convert.h"
#include "bindings/engine.h"
#include "bindings/module.h"
#include "bindings/owned.h"

namespace posttrain::bindings {
namespace {

Napi::Value create_session(const Napi::CallbackInfo& info) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  TORCH_CHECK_VALUE(info[1].IsArray(), "[generate] prompts must be an array of Int32Array");
  const auto array = info[1].As<Napi::Array>();
  std::vector<std::vector<int32_t>> prompts;
  for (uint32_t i = 0; i < array.Length(); ++i)
    prompts.push_back(int32s_of(array.Get(i), "prompts[i]"));
  const auto object = object_of(info[2], "options");
  generate::SessionOptions options;
  options.max_new_tokens = int32s_of(object.Get("maxNewTokens"), "maxNewTokens");
  options.sampling = {number_field(object, "temperature"),
                      integer_field(object, "topK"),
                      number_field(object, "topP"),
                      number_field(object, "minP"),
                      number_field(object, "repetitionPenalty"),
                      static_cast<uint64_t>(integer_field(object, "seed"))};
  if (has_value(object, "batchSize")) options.rows_at_once = integer_field(object, "batchSize");
  for (const int32_t id : int32s_of(object.Get("stopIds"), "stopIds")) options.stop_ids.insert(id);
  const auto& s = options.sampling;
  TORCH_CHECK_VALUE(std::isfinite(s.temperature) && s.temperature >= 0,
                    "[generate] temperature must be at least 0, got ", s.temperature);
  TORCH_CHECK_VALUE(s.top_k >= 0, "[generate] topK must be at least 0, got ", s.top_k);
  TORCH_CHECK_VALUE(s.top_p > 0 && s.top_p <= 1, "[generate] topP must be in (0, 1], got ",
                    s.top_p);
  TORCH_CHECK_VALUE(s.min_p >= 0 && s.min_p <= 1, "[generate] minP must be in [0, 1], got ",
                    s.min_p);
  TORCH_CHECK_VALUE(std::isfinite(s.repetition_penalty) && s.repetition_penalty > 0,
                    "[generate] repetitionPenalty must be above 0, got ", s.repetition_penalty);
  return submit(
      info.Env(), {role}, cancel_of(info[3]),
      [role, prompts = std::move(prompts), options = std::move(options)](const core::Cancel&) {
        return handle_reply(kSession,
                            std::make_shared<generate::Session>(role->object, prompts, options));
      });
}

Napi::Value advance(const Napi::CallbackInfo& info) {
  const auto session = unwrap_as<OwnedSession>(info[0], kSession);
  TORCH_CHECK_VALUE(info[1].IsNumber(), "[generate] tokens must be a number");
  const int64_t tokens = info[1].As<Napi::Number>().Int64Value();
  return submit(
      info.Env(), {session}, cancel_of(info[2]), [=](const core::Cancel& cancel) -> Reply {
        auto step = session->object->advance(tokens, cancel);
        return [step = std::move(step)](Napi::Env env) -> Napi::Value {
          auto result = Napi::Object::New(env);
          result.Set("rows", int32_array(env, step.rows));
          result.Set("ids", int32_array(env, step.ids));
          result.Set("logProbs", float32_array(env, step.log_probs.data(), step.log_probs.size()));
          auto finished = Napi::Array::New(env, step.finished.size());
          for (size_t i = 0; i < step.finished.size(); ++i) {
            auto item = Napi::Object::New(env);
            item.Set("row", step.finished[i].row);
            item.Set("reason", step.finished[i].stopped ? "stop" : "length");
            finished.Set(i, item);
          }
          result.Set("finished", finished);
          return result;
        };
      });
}

Napi::Value finish(const Napi::CallbackInfo& info) {
  const auto session = unwrap_as<OwnedSession>(info[0], kSession);
  auto rows = int32s_of(info[1], "rows");
  return submit(info.Env(), {session}, nullptr, [=, rows = std::move(rows)](const core::Cancel&) {
    session->object->finish(rows);
    return undefined_reply();
  });
}

}  // namespace

void register_generation(Napi::Env env, Napi::Object exports) {
  exports.Set("createSession", method(env, create_session));
  exports.Set("advance", method(env, advance));
  exports.Set("finish", method(env, finish));
}

}  // namespace posttrain::bindings
