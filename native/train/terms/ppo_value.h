#pragma once
#include "train/terms/term.h"

namespace posttrain::train {

/** The clipped value loss of losses/ppo.h; head scalar, read where the label is predicted. */
struct PpoValueTerm {
  static constexpr const char* kKind = "ppoValue";
  double coefficient = 1;
  std::optional<double> clip;
  std::vector<double> old_values, returns;  // of tokens

  static PpoValueTerm read(const Fields& fields);
  Needs needs();
  losses::Sums loss(const Outputs& outputs, const Gradient& gradient) const;
};

}  // namespace posttrain::train
