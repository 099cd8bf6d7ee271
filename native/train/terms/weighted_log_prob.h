#pragma once
#include "train/terms/term.h"

namespace posttrain::train {

/** -sum of weight * log p(label), with weights of the term itself; head lm. */
struct WeightedLogProbTerm {
  static constexpr const char* kKind = "weightedLogProb";
  double coefficient = 1;
  std::vector<double> weights;  // of tokens

  static WeightedLogProbTerm read(const Fields& fields);
  Needs needs();
  losses::Sums loss(const Outputs& outputs, const Gradient& gradient) const;
};

}  // namespace posttrain::train
