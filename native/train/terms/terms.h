#pragma once
#include <variant>

#include "train/terms/cross_entropy.h"
#include "train/terms/dpo.h"
#include "train/terms/full_kl.h"
#include "train/terms/kl.h"
#include "train/terms/kto.h"
#include "train/terms/pairwise_reward.h"
#include "train/terms/ppo_policy.h"
#include "train/terms/ppo_value.h"
#include "train/terms/weighted_log_prob.h"

namespace posttrain::train {

/** The loss terms of a backward. Each kind is in this list and in its own file in this folder. */
using LossTerm = std::variant<CrossEntropyTerm, WeightedLogProbTerm, PpoPolicyTerm, PpoValueTerm,
                              KlTerm, FullKlTerm, DpoTerm, KtoTerm, PairwiseRewardTerm>;

/** Reads the term of the kind in field `kind`. Throws ValueError naming the invalid field. */
LossTerm read_term(const Fields& fields);
Needs needs_of(LossTerm& term);
losses::Sums loss_of(const LossTerm& term, const Outputs& outputs, const Gradient& gradient);

}  // namespace posttrain::train
