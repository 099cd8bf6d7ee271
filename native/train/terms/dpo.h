#pragma once
#include "losses/preference.h"
#include "train/terms/term.h"

namespace posttrain::train {

/** Pair losses in losses/preference.h; head lm. */
struct DpoTerm {
  static constexpr const char* kKind = "dpo";
  double coefficient = 1;
  losses::DpoOptions options;
  std::vector<int32_t> pairs;          // [2 P]: chosen and rejected document
  std::vector<double> weights;         // [P], or empty: 1
  std::vector<double> reference_sums;  // [D]: log-probability of each document's labels; or empty

  static DpoTerm read(const Fields& fields);
  Needs needs() const;
  losses::Sums loss(const Outputs& outputs, const Gradient& gradient) const;
};

losses::DpoOptions dpo_options_of(const Fields& fields);

}  // namespace posttrain::train
