#pragma once
#include "losses/ppo.h"
#include "train/terms/term.h"

namespace posttrain::train {

/** The clipped policy loss of losses/ppo.h and an entropy bonus; head lm. */
struct PpoPolicyTerm {
  static constexpr const char* kKind = "ppoPolicy";
  double coefficient = 1;
  losses::PpoPolicyOptions options;
  std::vector<double> old_log_probs, advantages;  // of tokens
  std::vector<double> importance;                 // of tokens, or empty: 1
  /** - entropy_coefficient * entropy of each prediction. */
  double entropy_coefficient = 0;

  static PpoPolicyTerm read(const Fields& fields);
  Needs needs();
  losses::Sums loss(const Outputs& outputs, const Gradient& gradient) const;
};

losses::PpoPolicyOptions policy_options_of(const Fields& fields);

}  // namespace posttrain::train
