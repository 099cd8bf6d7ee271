#pragma once
#include "losses/kl.h"
#include "train/terms/term.h"

namespace posttrain::train {

/** KL penalty against a reference from the log-probabilities of the labels; head lm. */
struct KlTerm {
  static constexpr const char* kKind = "kl";
  double coefficient = 1;
  losses::KlEstimator estimator;
  std::vector<double> reference_log_probs;  // of tokens
  /** Unless empty, multiplies each value by exp(log p - old), differentiated as well. */
  std::vector<double> old_log_probs;  // of tokens, or empty

  static KlTerm read(const Fields& fields);
  Needs needs();
  losses::Sums loss(const Outputs& outputs, const Gradient& gradient) const;
};

}  // namespace posttrain::train
