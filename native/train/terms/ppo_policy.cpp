#include "train/terms/ppo_policy.h"

#include <c10/util/Exception.h>

namespace posttrain::train {

losses::PpoPolicyOptions policy_options_of(const Fields& fields) {
  const losses::PpoPolicyOptions options{.clip_low = fields.number("clipLow", 0.2),
                                         .clip_high = fields.number("clipHigh", 0.2),
                                         .dual_clip = fields.number_or_none("dualClip"),
                                         .sequence = fields.boolean("sequence", false)};
  TORCH_CHECK_VALUE(options.clip_low >= 0 && options.clip_high >= 0,
                    "[ppo] the clip range must not be negative");
  TORCH_CHECK_VALUE(!options.dual_clip || *options.dual_clip > 1,
                    "[ppo] dualClip must be above 1, got ", *options.dual_clip);
  return options;
}

PpoPolicyTerm PpoPolicyTerm::read(const Fields& fields) {
  return {.options = policy_options_of(fields),
          .old_log_probs = fields.doubles("oldLogProbs"),
          .advantages = fields.doubles("advantages"),
          .importance = fields.doubles("importance"),
          .entropy_coefficient = fields.number("entropyCoefficient", 0)};
}

Needs PpoPolicyTerm::needs() {
  return {.reads = options.sequence ? Reads::all_labels : Reads::each_label,
          .of_tokens = {{"oldLogProbs", &old_log_probs},
                        {"advantages", &advantages},
                        {.name = "importance", .values = &importance, .required = false}}};
}

losses::Sums PpoPolicyTerm::loss(const Outputs& outputs, const Gradient& gradient) const {
  const double scale = 1 / gradient.normalizer * coefficient;
  auto sums =
      losses::ppo_policy({outputs.log_probs, outputs.part(old_log_probs), outputs.part(advantages),
                          outputs.weights, outputs.part(importance), outputs.documents},
                         options, scale, gradient.log_probs);
  double entropy = 0, all_entropy = 0;
  for (size_t r = 0; r < outputs.entropy.size(); ++r) {
    entropy += outputs.weights[r] * outputs.entropy[r];
    all_entropy += outputs.entropy[r];
    if (!gradient.entropy.empty())
      gradient.entropy[r] -= scale * entropy_coefficient * outputs.weights[r];
  }
  sums.loss -= entropy_coefficient * entropy;
  sums.more.emplace_back("entropy", all_entropy);
  sums.more.emplace_back("labels", static_cast<double>(outputs.log_probs.size()));
  return sums;
}

}  // namespace posttrain::train
