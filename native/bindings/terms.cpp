#include "bindings/terms.h"

#include <cmath>

#include "bindings/convert.h"
#include "bindings/owned.h"

namespace posttrain::bindings {
namespace {

train::LossTerm term_of(const Napi::Object& object, std::vector<std::shared_ptr<Owned>>& uses) {
  const auto kind = string_field(object, "kind");
  const double coefficient = number_field(object, "coefficient", 1.0);
  TORCH_CHECK_VALUE(std::isfinite(coefficient), "[", kind, "] coefficient must be finite, got ",
                    coefficient);
  if (kind == "crossEntropy")
    return train::CrossEntropyTerm{coefficient, integer_field(object, "ignoreIndex", -100)};
  if (kind == "weightedLogProb")
    return train::WeightedLogProbTerm{coefficient, doubles_field(object, "weights")};
  if (kind == "ppoPolicy") {
    return train::PpoPolicyTerm{coefficient,
                                policy_options_of(object),
                                doubles_field(object, "oldLogProbs"),
                                doubles_field(object, "advantages"),
                                doubles_field(object, "importance"),
                                number_field(object, "entropyCoefficient", 0.0)};
  }
  if (kind == "ppoValue") {
    return train::PpoValueTerm{
        coefficient, has_value(object, "clip") ? number_field(object, "clip") : -1,
        doubles_field(object, "oldValues"), doubles_field(object, "returns")};
  }
  if (kind == "kl") {
    return train::KlTerm{coefficient, losses::kl_estimator_of(string_field(object, "estimator")),
                         doubles_field(object, "referenceLogProbs"),
                         doubles_field(object, "oldLogProbs")};
  }
  if (kind == "fullKl") {
    const auto direction = string_field(object, "direction");
    TORCH_CHECK_VALUE(direction == "forward" || direction == "reverse",
                      "[kl] direction must be forward or reverse, got ", direction);
    const auto reference = unwrap_as<OwnedRole>(object.Get("reference"), kRole);
    uses.push_back(reference);
    return train::FullKlTerm{coefficient, direction == "forward", reference->object};
  }
  if (kind == "dpo") {
    return train::DpoTerm{coefficient, dpo_options_of(object), int32s_field(object, "pairs"),
                          doubles_field(object, "weights"), doubles_field(object, "referenceSums")};
  }
  if (kind == "kto") {
    return train::KtoTerm{
        coefficient,
        {number_field(object, "beta"), number_field(object, "desirableWeight", 1),
         number_field(object, "undesirableWeight", 1), number_field(object, "kl")},
        bytes_field(object, "desirable"),
        doubles_field(object, "referenceSums")};
  }
  if (kind == "pairwiseReward") {
    return train::PairwiseRewardTerm{
        coefficient, number_field(object, "center", 0), int32s_field(object, "pairs"),
        doubles_field(object, "margins"), doubles_field(object, "weights")};
  }
  TORCH_CHECK_VALUE(false, "[backward] there is no loss term of kind ", kind);
}

}  // namespace

Terms terms_of(const Napi::Value& value) {
  TORCH_CHECK_VALUE(value.IsArray(), "[backward] terms must be an array");
  const auto array = value.As<Napi::Array>();
  Terms result;
  for (uint32_t i = 0; i < array.Length(); ++i)
    result.terms.push_back(term_of(object_of(array.Get(i), "terms[i]"), result.uses));
  return result;
}

losses::DpoOptions dpo_options_of(const Napi::Object& object) {
  auto options = losses::dpo_entry(string_field(object, "loss")).defaults;
  options.beta = number_field(object, "beta", options.beta);
  options.label_smoothing = number_field(object, "labelSmoothing", options.label_smoothing);
  options.gamma = number_field(object, "gamma", options.gamma);
  losses::check(options);
  return options;
}

losses::PpoPolicyOptions policy_options_of(const Napi::Object& object) {
  losses::PpoPolicyOptions options{
      number_field(object, "clipLow", 0.2), number_field(object, "clipHigh", 0.2),
      has_value(object, "dualClip") ? number_field(object, "dualClip") : 0,
      boolean_field(object, "sequence", false)};
  TORCH_CHECK_VALUE(options.clip_low >= 0 && options.clip_high >= 0,
                    "[ppo] the clip range must not be negative");
  TORCH_CHECK_VALUE(options.dual_clip == 0 || options.dual_clip > 1,
                    "[ppo] dualClip must be above 1, got ", options.dual_clip);
  return options;
}

}  // namespace posttrain::bindings
