#pragma once
#include "train/terms/term.h"

namespace posttrain::train {

/** -sum of weight * log p(label), with the weights of the batch; head lm. */
struct CrossEntropyTerm {
  static constexpr const char* kKind = "crossEntropy";
  double coefficient = 1;
  int64_t ignore_index;

  static CrossEntropyTerm read(const Fields& fields);
  Needs needs() const;
  losses::Sums loss(const Outputs& outputs, const Gradient& gradient) const;
};

}  // namespace posttrain::train
