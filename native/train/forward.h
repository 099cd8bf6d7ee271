#pragma once
#include <vector>

#include "models/role.h"
#include "train/batch.h"

namespace posttrain::train {

/** Logits of every token, float32 on the CPU, [T, V]. */
at::Tensor logits(models::Role& role, const Batch& batch, const core::Cancel& cancel);

struct LabelLogProbs {
  std::vector<double> log_probs, entropy;  // [T]: 0 without a label
};
/** log p(labels[t]) of logits / temperature given the tokens before t, and the entropy of that
 * prediction. */
LabelLogProbs log_probs(models::Role& role, const Batch& batch, double temperature,
                        const core::Cancel& cancel);
/** Scalar head outputs where labels are predicted, [T], 0 elsewhere. */
std::vector<double> values(models::Role& role, const Batch& batch, const core::Cancel& cancel);
/** Scalar head outputs at the last token of each document, [D]. */
std::vector<double> scores(models::Role& role, const Batch& batch, const core::Cancel& cancel);

}  // namespace posttrain::train
