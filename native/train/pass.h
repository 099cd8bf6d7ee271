#pragma once
#include <vector>

#include "losses/linear_cross_entropy.h"
#include "models/role.h"
#include "train/batch.h"
#include "train/terms/terms.h"

namespace posttrain::train {

struct BackwardOptions {
  bool gradient = true;
  double normalizer = 1;
  bool checkpointing = false;
  /** Log-probabilities are taken of logits / temperature. */
  double temperature = 1;
  /** Seed of LoRA dropout; 0 turns it off. */
  uint64_t dropout_seed = 0;
};

/**
 * One forward for all terms and, with `gradient`, one backward of sum of coefficient * loss /
 * normalizer. R rows are read: the labels, or the last token of each document.
 */
class Pass {
 public:
  Pass(models::Role& role, const Batch& batch, std::vector<LossTerm> terms,
       const BackwardOptions& options, const core::Cancel& cancel);

  /** Sums of each term, undivided. Throws ValueError where a term needs a head that the role
   * lacks, or its vectors do not match the batch. */
  std::vector<losses::Sums> run();

 private:
  void check() const;
  void read_rows();
  int64_t ignore_index() const;
  void read_of_tokens(const OfTokens& vector) const;
  bool any(bool (*reads)(Reads)) const;
  bool only_linear() const;
  std::vector<losses::Sums> sums(const HiddenStates* hidden);
  /** Losses of the labels; with scales their gradient too. */
  losses::LinearCrossEntropy label_losses(const losses::RowScales& scales);
  /** Waits for the losses of the labels. */
  void read(losses::LinearCrossEntropy& losses);
  /** Gradient scale of one label, from its own loss. */
  device::RowScale scale_of(size_t row, const device::RowLoss& loss) const;

  models::Role& role_;
  const Batch& batch_;
  std::vector<LossTerm> terms_;
  std::vector<Needs> needs_;  // of each term
  const BackwardOptions& options_;
  const core::Cancel& cancel_;
  models::Tokens tokens_;
  Labels labels_;
  at::Tensor hidden_RD_;
  std::vector<double> log_probs_, entropy_, values_;  // [R]
  std::vector<uint8_t> correct_;
  std::vector<double> dlog_probs_, dentropy_, dvalues_;  // [R], or empty: no gradient
  at::Tensor dhidden_RD_;
};

}  // namespace posttrain::train
