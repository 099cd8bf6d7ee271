#pragma once
#include <vector>

#include "losses/sums.h"
#include "models/role.h"
#include "train/batch.h"
#include "train/terms.h"

namespace posttrain::train {

struct BackwardOptions {
  bool gradient = true;
  double normalizer = 1;
  bool checkpointing = false;
  /** Log-probabilities are those of logits / temperature. */
  double temperature = 1;
  /** Other than 0: LoRA dropout is on, drawn from it. */
  uint64_t dropout_seed = 0;
};

/**
 * One forward for all terms and, with `gradient`, one backward of sum of coefficient * loss /
 * normalizer. Sums of each term come back undivided. Throws ValueError where a term needs a head
 * that the role has not, or vectors that do not fit the batch.
 */
std::vector<losses::Sums> run_terms(models::Role& role, const Batch& batch,
                                    const std::vector<LossTerm>& terms,
                                    const BackwardOptions& options, const core::Cancel& cancel);

/** Logits of every token, float32 on the CPU, [T, V]. */
at::Tensor logits(models::Role& role, const Batch& batch, const core::Cancel& cancel);

struct LabelLogProbs {
  std::vector<double> log_probs, entropy;  // [T]: 0 where there is no label
};
/** log p(labels[t]) of logits / temperature given the tokens before t, and the entropy of that
 * prediction. */
LabelLogProbs log_probs(models::Role& role, const Batch& batch, double temperature,
                        const core::Cancel& cancel);
/** The scalar head where each label is predicted, [T], 0 elsewhere. */
std::vector<double> values(models::Role& role, const Batch& batch, const core::Cancel& cancel);
/** The scalar head at the last token of each document, [D]. */
std::vector<double> scores(models::Role& role, const Batch& batch, const core::Cancel& cancel);

}  // namespace posttrain::train
