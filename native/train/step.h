#pragma once
#include <vector>

#include "losses/loss.h"
#include "models/role.h"
#include "train/batch.h"

namespace posttrain::train {

/** Sums over the labels of one term; nothing here is divided by anything. */
struct TermResult {
  double loss = 0;
  double count = 0;
  double correct = 0;
  double entropy = 0;
  double labels = 0;
};

struct BackwardOptions {
  bool gradient = true;
  double normalizer = 1;
  bool checkpointing = false;
};

/** One forward for all terms and, with `gradient`, one backward of sum of coefficient * loss /
 * normalizer. */
std::vector<TermResult> run_terms(models::Role& role, const Batch& batch,
                                  const std::vector<losses::LossTerm>& terms,
                                  const BackwardOptions& options, const core::Cancel& cancel);

/** Logits of every token, float32 on the CPU, [T, V]. */
at::Tensor logits(models::Role& role, const Batch& batch, const core::Cancel& cancel);
/** log p(labels[t]) given the tokens before t, 0 where there is no label, [T]. */
std::vector<float> log_probs(models::Role& role, const Batch& batch, const core::Cancel& cancel);

}  // namespace posttrain::train
