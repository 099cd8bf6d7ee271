#pragma once
#include "losses/preference.h"
#include "train/terms/term.h"

namespace posttrain::train {

/** KTO loss of unpaired responses in losses/preference.h, one per document; head lm. */
struct KtoTerm {
  static constexpr const char* kKind = "kto";
  double coefficient = 1;
  losses::KtoOptions options;
  std::vector<uint8_t> desirable;      // [D]
  std::vector<double> reference_sums;  // [D]: log-probability of each document's labels

  static KtoTerm read(const Fields& fields);
  Needs needs() const;
  losses::Sums loss(const Outputs& outputs, const Gradient& gradient) const;
};

}  // namespace posttrain::train
