#pragma once
#include "train/terms/term.h"

namespace posttrain::train {

/** The pairwise loss of reward models in losses/preference.h; head scalar, read at the last token
 * of each document. */
struct PairwiseRewardTerm {
  static constexpr const char* kKind = "pairwiseReward";
  double coefficient = 1;
  double center = 0;
  std::vector<int32_t> pairs;            // [2 P]: chosen and rejected document
  std::vector<double> margins, weights;  // [P], or empty: 0 and 1

  static PairwiseRewardTerm read(const Fields& fields);
  Needs needs() const;
  losses::Sums loss(const Outputs& outputs, const Gradient& gradient) const;
};

}  // namespace posttrain::train
