#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "losses/kl.h"
#include "losses/ppo.h"
#include "losses/preference.h"
#include "models/role.h"

namespace posttrain::train {

// The terms of a backward, each a loss of one forward with a coefficient. Vectors "of tokens" have
// one value a token of the batch, read where the token is a label. Each kind says which head it
// needs.

/** Head lm. */
struct CrossEntropyTerm {
  double coefficient = 1;
  int64_t ignore_index = -100;
};

/** -sum of weight * log p(label); head lm. */
struct WeightedLogProbTerm {
  double coefficient = 1;
  std::vector<double> weights;  // of tokens
};

/** Head lm. */
struct PpoPolicyTerm {
  double coefficient = 1;
  losses::PpoPolicyOptions options;
  std::vector<double> old_log_probs, advantages;  // of tokens
  std::vector<double> importance;                 // of tokens, or empty: 1
  /** - entropy_coefficient * entropy of each prediction. */
  double entropy_coefficient = 0;
};

/** Head scalar, read where the label is predicted. */
struct PpoValueTerm {
  double coefficient = 1;
  double clip = 0.2;                        // negative: no clipping
  std::vector<double> old_values, returns;  // of tokens
};

/** KL penalty from the log-probabilities of the labels; head lm. */
struct KlTerm {
  double coefficient = 1;
  losses::KlEstimator estimator = losses::KlEstimator::k2;
  std::vector<double> reference_log_probs;  // of tokens
  /** Where given, each value is multiplied by exp(log p - old), which is differentiated too. */
  std::vector<double> old_log_probs;  // of tokens, or empty
};

/** KL over the whole vocabulary against another role with the same vocabulary; head lm. */
struct FullKlTerm {
  double coefficient = 1;
  /** KL(reference || this), the textbook's; else KL(this || reference). */
  bool forward = false;
  std::shared_ptr<models::Role> reference;
};

/** Pairs of documents, [2 P]: better, worse; head lm. */
struct DpoTerm {
  double coefficient = 1;
  losses::DpoOptions options;
  std::vector<int32_t> pairs;
  std::vector<double> weights;         // [P], or empty: 1
  std::vector<double> reference_sums;  // [D]: log-probability of each document's labels; or empty
};

/** Head lm. */
struct KtoTerm {
  double coefficient = 1;
  losses::KtoOptions options;
  std::vector<uint8_t> desirable;      // [D]
  std::vector<double> reference_sums;  // [D]
};

/** Pairs of documents, [2 P]: better, worse; head scalar, read at each document's last token. */
struct PairwiseRewardTerm {
  double coefficient = 1;
  double center = 0;
  std::vector<int32_t> pairs;
  std::vector<double> margins, weights;  // [P], or empty: 0 and 1
};

using LossTerm = std::variant<CrossEntropyTerm, WeightedLogProbTerm, PpoPolicyTerm, PpoValueTerm,
                              KlTerm, FullKlTerm, DpoTerm, KtoTerm, PairwiseRewardTerm>;

}  // namespace posttrain::train
