#pragma once
#include "losses/kl.h"
#include "train/terms/term.h"

namespace posttrain::train {

/** KL over the whole vocabulary against another role with the same vocabulary; head lm. */
struct FullKlTerm {
  static constexpr const char* kKind = "fullKl";
  double coefficient = 1;
  losses::KlDirection direction;
  std::shared_ptr<models::Role> reference;

  static FullKlTerm read(const Fields& fields);
  Needs needs() const;
  losses::Sums loss(const Outputs& outputs, const Gradient& gradient) const;
};

}  // namespace posttrain::train
