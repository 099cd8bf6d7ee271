#include <cmath>

#include "bindings/convert.h"
#include "bindings/engine.h"
#include "bindings/module.h"
#include "bindings/owned.h"
#include "losses/kl.h"
#include "rollout/advantages.h"

namespace posttrain::bindings {
namespace {

std::vector<int64_t> offsets_of(const Napi::Object& object) {
  const auto offsets = int32s_field(object, "offsets");
  return {offsets.begin(), offsets.end()};
}

Reply array_reply(std::vector<double> values) {
  return [values = std::move(values)](Napi::Env env) -> Napi::Value {
    return float64_array(env, values);
  };
}

Napi::Value gae(const Napi::CallbackInfo& info) {
  const auto object = object_of(info[0], "options");
  const auto rewards = doubles_field(object, "rewards"), values = doubles_field(object, "values");
  const auto offsets = offsets_of(object);
  const double gamma = number_field(object, "gamma"), lambda = number_field(object, "lambda");
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) -> Reply {
    return [result = rollout::gae(rewards, values, offsets, gamma, lambda)](
               Napi::Env env) -> Napi::Value {
      auto reply = Napi::Object::New(env);
      reply.Set("advantages", float64_array(env, result.advantages));
      reply.Set("returns", float64_array(env, result.returns));
      return reply;
    };
  });
}

Napi::Value whiten(const Napi::CallbackInfo& info) {
  const auto values = doubles_of(info[0], "values");
  const auto options = object_of(info[1], "options");
  const auto mask = bytes_field(options, "mask");
  const bool shift = boolean_field(options, "shiftMean");
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) {
    return array_reply(rollout::whiten(values, mask, shift));
  });
}

/** KL estimate of each token, and the rewards from these and the scores. */
Napi::Value token_rewards(const Napi::CallbackInfo& info) {
  const auto object = object_of(info[0], "options");
  const auto log_probs = doubles_field(object, "logProbs");
  const auto reference = doubles_field(object, "referenceLogProbs");
  TORCH_CHECK_VALUE(reference.size() == log_probs.size(), "[rollout] referenceLogProbs has ",
                    reference.size(), " values, logProbs ", log_probs.size());
  const auto scores = doubles_field(object, "scores");
  const auto offsets = offsets_of(object);
  const auto estimator = losses::kl_estimator_of(string_field(object, "estimator"));
  const double coefficient = number_field(object, "coefficient");
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) -> Reply {
    std::vector<double> kl(log_probs.size());
    for (size_t i = 0; i < kl.size(); ++i)
      kl[i] = losses::kl_value(estimator, log_probs[i], reference[i]).value;
    return array_reply(rollout::token_rewards(kl, scores, offsets, coefficient));
  });
}

Reply groups_reply(rollout::GroupAdvantages result) {
  return [result = std::move(result)](Napi::Env env) -> Napi::Value {
    auto reply = Napi::Object::New(env);
    reply.Set("advantages", float64_array(env, result.advantages));
    reply.Set("withoutSpread", static_cast<double>(result.without_spread));
    return reply;
  };
}

Napi::Value group_advantages(const Napi::CallbackInfo& info) {
  const auto object = object_of(info[0], "options");
  const auto rewards = doubles_field(object, "rewards");
  for (const double reward : rewards)
    TORCH_CHECK_VALUE(std::isfinite(reward), "[rollout] a reward is not finite: ", reward);
  const auto offsets = offsets_of(object);
  const auto method = string_field(object, "method");
  TORCH_CHECK_VALUE(method == "grpo" || method == "rloo",
                    "[rollout] method must be grpo or rloo, got ", method);
  // None for rloo, which does not divide
  std::optional<rollout::RewardScale> scale;
  if (method == "grpo") scale = rollout::reward_scale_of(string_field(object, "scaleRewards"));
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) {
    return groups_reply(scale ? rollout::grpo_advantages(rewards, offsets, *scale)
                              : rollout::rloo_advantages(rewards, offsets));
  });
}

}  // namespace

void register_rollout(Napi::Env env, Napi::Object exports) {
  exports.Set("gae", method(env, gae));
  exports.Set("whiten", method(env, whiten));
  exports.Set("tokenRewards", method(env, token_rewards));
  exports.Set("groupAdvantages", method(env, group_advantages));
}

}  // namespace posttrain::bindings
