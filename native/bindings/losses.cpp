#include <cstring>

#include "bindings/convert.h"
#include "bindings/engine.h"
#include "bindings/module.h"
#include "bindings/owned.h"
#include "bindings/terms.h"
#include "losses/cross_entropy.h"
#include "losses/ppo.h"
#include "losses/preference.h"
#include "train/terms/dpo.h"
#include "train/terms/ppo_policy.h"

namespace posttrain::bindings {
namespace {

/** Copies a Float32Array or Float64Array to a matrix of the same precision. */
at::Tensor matrix_of(const Napi::Value& value, int64_t rows, int64_t columns, const char* what) {
  const bool typed = value.IsTypedArray();
  const auto type = typed ? value.As<Napi::TypedArray>().TypedArrayType() : napi_int8_array;
  TORCH_CHECK_VALUE(type == napi_float32_array || type == napi_float64_array, "[boundary] ", what,
                    " must be a Float32Array or a Float64Array");
  const auto array = value.As<Napi::TypedArray>();
  TORCH_CHECK_VALUE(rows >= 0 && columns > 0 &&
                        static_cast<double>(rows) * static_cast<double>(columns) ==
                            static_cast<double>(array.ElementLength()),
                    "[boundary] ", what, " has ", array.ElementLength(), " values, not ", rows,
                    " x ", columns);
  auto result = at::empty({rows, columns}, type == napi_float32_array ? at::kFloat : at::kDouble);
  const auto* source = static_cast<const uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset();
  if (array.ByteLength() > 0) std::memcpy(result.mutable_data_ptr(), source, array.ByteLength());
  return result;
}

Napi::Value array_of(Napi::Env env, const at::Tensor& values) {
  if (values.scalar_type() == at::kFloat)
    return float32_array(env, values.const_data_ptr<float>(), values.numel());
  auto result = Napi::Float64Array::New(env, values.numel());
  if (values.numel() > 0)
    std::memcpy(result.Data(), values.const_data_ptr<double>(), values.nbytes());
  return result;
}

Napi::Value cross_entropy(const Napi::CallbackInfo& info) {
  const auto options = object_of(info[2], "options");
  const auto logits = matrix_of(info[0], integer_field(options, "rows"),
                                integer_field(options, "columns"), "logits");
  auto labels = int32s_of(info[1], "labels");
  TORCH_CHECK_VALUE(static_cast<int64_t>(labels.size()) == logits.size(0),
                    "[crossEntropy] labels has ", labels.size(), " entries, logits has ",
                    logits.size(0), " rows");
  const int64_t ignore_index = integer_field(options, "ignoreIndex");
  const bool gradient = boolean_field(options, "gradient");
  return submit(
      info.Env(), {}, nullptr, [=, labels = std::move(labels)](const core::Cancel&) -> Reply {
        const auto result = losses::cross_entropy(logits, labels.data(), ignore_index, gradient);
        return [result](Napi::Env env) -> Napi::Value {
          auto object = Napi::Object::New(env);
          object.Set("loss", result.loss);
          object.Set("count", static_cast<double>(result.count));
          if (result.gradient.defined()) object.Set("gradient", array_of(env, result.gradient));
          return object;
        };
      });
}

/** Weights of N values from an optional mask: 1 or 0. */
std::vector<double> weights_of(const Napi::Object& object, size_t count) {
  const auto mask = bytes_field(object, "mask");
  TORCH_CHECK_VALUE(mask.empty() || mask.size() == count, "[losses] the mask has ", mask.size(),
                    " entries for ", count, " values");
  std::vector<double> weights(count, 1);
  for (size_t i = 0; i < mask.size(); ++i) weights[i] = mask[i] != 0 ? 1 : 0;
  return weights;
}

/** A vector of `count` finite values where a weight counts them. */
std::vector<double> vector_field(const Napi::Object& object, const char* name, size_t count) {
  auto values = doubles_field(object, name);
  TORCH_CHECK_VALUE(values.size() == count, "[losses] ", name, " has ", values.size(),
                    " values, expected ", count);
  return values;
}

double total(const std::vector<double>& weights) {
  double sum = 0;
  for (const double weight : weights) sum += weight;
  return sum;
}

/** Mean loss, means of the further sums, and the gradient if requested. */
Reply mean_reply(losses::Sums sums, double normalizer, bool wanted, std::vector<double> gradient) {
  return [=](Napi::Env env) -> Napi::Value {
    const double divisor = normalizer == 0 ? 1 : normalizer;
    auto object = Napi::Object::New(env);
    object.Set("loss", sums.loss / divisor);
    for (const auto& [name, sum] : sums.more) object.Set(name, sum / divisor);
    if (wanted) object.Set("gradient", float64_array(env, gradient));
    return object;
  };
}

std::vector<double> gradient_buffer(bool wanted, size_t count) {
  return std::vector<double>(wanted ? count : 0, 0);
}

double reciprocal(double value) { return value == 0 ? 0 : 1 / value; }

Napi::Value policy_loss(const Napi::CallbackInfo& info) {
  const auto object = object_of(info[0], "options");
  auto log_probs = doubles_field(object, "logProbs");
  const size_t count = log_probs.size();
  auto old = vector_field(object, "oldLogProbs", count);
  auto advantages = vector_field(object, "advantages", count);
  auto weights = has_value(object, "weights") ? vector_field(object, "weights", count)
                                              : weights_of(object, count);
  const double normalizer = number_field(object, "normalizer", total(weights));
  const auto options = train::policy_options_of(ObjectFields(object));
  const bool wanted = boolean_field(object, "gradient", false);
  auto gradient = gradient_buffer(wanted, count);
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) mutable {
    const auto sums = losses::ppo_policy({log_probs, old, advantages, weights, {}, {}}, options,
                                         reciprocal(normalizer), gradient);
    return mean_reply(sums, normalizer, wanted, gradient);
  });
}

Napi::Value value_loss(const Napi::CallbackInfo& info) {
  const auto object = object_of(info[0], "options");
  auto values = doubles_field(object, "values");
  const size_t count = values.size();
  auto old = vector_field(object, "oldValues", count);
  auto returns = vector_field(object, "returns", count);
  auto weights = weights_of(object, count);
  const auto clip = ObjectFields(object).number_or_none("clip");
  const bool wanted = boolean_field(object, "gradient", false);
  auto gradient = gradient_buffer(wanted, count);
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) mutable {
    const double normalizer = total(weights);
    const auto sums =
        losses::ppo_value(values, old, returns, weights, clip, reciprocal(normalizer), gradient);
    return mean_reply(sums, normalizer, wanted, gradient);
  });
}

Napi::Value kl_penalty(const Napi::CallbackInfo& info) {
  const auto object = object_of(info[0], "options");
  auto log_probs = doubles_field(object, "logProbs");
  const size_t count = log_probs.size();
  auto reference = vector_field(object, "referenceLogProbs", count);
  const auto name = string_field(object, "estimator");
  const double coefficient = number_field(object, "coefficient");
  const bool wanted = boolean_field(object, "gradient", false);
  auto gradient = gradient_buffer(wanted, count);
  if (name == "full") {
    const int64_t columns = integer_field(object, "columns");
    TORCH_CHECK_VALUE(columns > 0 && count % static_cast<size_t>(columns) == 0,
                      "[kl] logProbs has ", count, " values, not rows of ", columns, " columns");
    const auto direction = losses::kl_direction_of(string_field(object, "direction"));
    return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) mutable {
      const double rows = static_cast<double>(count) / static_cast<double>(columns);
      losses::Sums sums;
      sums.loss = coefficient * losses::kl_full(log_probs, reference, direction,
                                                coefficient * reciprocal(rows), gradient);
      return mean_reply(sums, rows, wanted, gradient);
    });
  }
  const auto estimator = losses::kl_estimator_of(name);
  auto old = has_value(object, "oldLogProbs") ? vector_field(object, "oldLogProbs", count)
                                              : std::vector<double>();
  auto weights = has_value(object, "weights") ? vector_field(object, "weights", count)
                                              : weights_of(object, count);
  const double normalizer = number_field(object, "normalizer", total(weights));
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) mutable {
    auto sums = losses::kl_penalty(log_probs, reference, old, weights, estimator,
                                   coefficient * reciprocal(normalizer), gradient);
    sums.loss *= coefficient;
    return mean_reply(sums, normalizer, wanted, gradient);
  });
}

Napi::Value pair_losses(const Napi::CallbackInfo& info) {
  const auto table = losses::dpo_table();
  auto result = Napi::Array::New(info.Env(), table.size());
  for (uint32_t i = 0; i < table.size(); ++i) {
    const auto& [name, reference_free, lengths, defaults] = table[i];
    auto object = Napi::Object::New(info.Env());
    object.Set("name", name);
    object.Set("referenceFree", reference_free);
    object.Set("lengths", lengths);
    object.Set("beta", defaults.beta);
    object.Set("labelSmoothing", defaults.label_smoothing);
    object.Set("gamma", defaults.gamma);
    object.Set("lambda", defaults.lambda);
    result.Set(i, object);
  }
  return result;
}

Reply pairs_reply(std::vector<double> values, std::vector<double> chosen,
                  std::vector<double> rejected) {
  return [=](Napi::Env env) -> Napi::Value {
    auto object = Napi::Object::New(env);
    object.Set("losses", float64_array(env, values));
    object.Set("chosen", float64_array(env, chosen));
    object.Set("rejected", float64_array(env, rejected));
    return object;
  };
}

/** Losses of P pairs and their derivatives by the log-probabilities, none divided by P. */
Napi::Value dpo_losses(const Napi::CallbackInfo& info) {
  const auto object = object_of(info[0], "options");
  const auto options = train::dpo_options_of(ObjectFields(object));
  const auto chosen = doubles_field(object, "chosenLogProbs");
  const size_t count = chosen.size();
  const auto rejected = vector_field(object, "rejectedLogProbs", count);
  const auto or_empty = [&](const char* name) {
    return has_value(object, name) ? vector_field(object, name, count) : std::vector<double>();
  };
  const auto chosen_reference = or_empty("chosenReferenceLogProbs");
  const auto rejected_reference = or_empty("rejectedReferenceLogProbs");
  const auto chosen_lengths = or_empty("chosenLengths");
  const auto rejected_lengths = or_empty("rejectedLengths");
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) {
    std::vector<double> values(count), dchosen(count), drejected(count);
    const auto at = [](const std::vector<double>& from, size_t p, double absent) {
      return from.empty() ? absent : from[p];
    };
    for (size_t p = 0; p < count; ++p) {
      const auto loss = losses::dpo_loss(
          {chosen[p], rejected[p], at(chosen_reference, p, 0), at(rejected_reference, p, 0),
           at(chosen_lengths, p, 1), at(rejected_lengths, p, 1)},
          options);
      values[p] = loss.loss;
      dchosen[p] = loss.chosen;
      drejected[p] = loss.rejected;
    }
    return pairs_reply(values, dchosen, drejected);
  });
}

Napi::Value pairwise_losses(const Napi::CallbackInfo& info) {
  const auto object = object_of(info[0], "options");
  const auto better = doubles_field(object, "chosen");
  const size_t count = better.size();
  const auto worse = vector_field(object, "rejected", count);
  const auto margins = vector_field(object, "margins", count);
  const double center = number_field(object, "center");
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) {
    std::vector<double> values(count), dchosen(count), drejected(count);
    for (size_t p = 0; p < count; ++p) {
      const auto loss = losses::pairwise_reward_loss(better[p], worse[p], margins[p], center);
      values[p] = loss.loss;
      dchosen[p] = loss.chosen;
      drejected[p] = loss.rejected;
    }
    return pairs_reply(values, dchosen, drejected);
  });
}

Napi::Value kto_losses(const Napi::CallbackInfo& info) {
  const auto object = object_of(info[0], "options");
  const auto log_probs = doubles_field(object, "logProbs");
  const size_t count = log_probs.size();
  const auto reference = vector_field(object, "referenceLogProbs", count);
  const auto desirable = bytes_field(object, "desirable");
  TORCH_CHECK_VALUE(desirable.size() == count, "[kto] desirable has ", desirable.size(),
                    " entries, expected ", count);
  const losses::KtoOptions options{
      number_field(object, "beta"), number_field(object, "desirableWeight"),
      number_field(object, "undesirableWeight"), number_field(object, "kl")};
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) {
    std::vector<double> values(count), slopes(count);
    for (size_t i = 0; i < count; ++i) {
      const auto loss = losses::kto_loss(log_probs[i], reference[i], desirable[i] != 0, options);
      values[i] = loss.loss;
      slopes[i] = loss.slope;
    }
    return pairs_reply(values, slopes, {});
  });
}

}  // namespace

void register_losses(Napi::Env env, Napi::Object exports) {
  exports.Set("crossEntropy", method(env, cross_entropy));
  exports.Set("policyLoss", method(env, policy_loss));
  exports.Set("valueLoss", method(env, value_loss));
  exports.Set("klPenalty", method(env, kl_penalty));
  exports.Set("pairLosses", method(env, pair_losses));
  exports.Set("dpoLosses", method(env, dpo_losses));
  exports.Set("ktoLosses", method(env, kto_losses));
  exports.Set("pairwiseLosses", method(env, pairwise_losses));
}

}  // namespace posttrain::bindings
