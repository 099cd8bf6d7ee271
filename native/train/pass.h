#pragma once
#include <span>
#include <vector>

#include "train/label_terms.h"
#include "train/step.h"

namespace posttrain::train {

/** What the terms of one backward share: the rows read, and the gradients that they add up. */
class Pass {
 public:
  Pass(models::Role& role, const Batch& batch, const BackwardOptions& options,
       const core::Cancel& cancel)
      : role_(role), batch_(batch), options_(options), cancel_(cancel) {}

  std::vector<losses::Sums> run(const std::vector<LossTerm>& terms);

 private:
  void read_rows(const std::vector<LossTerm>& terms);
  /** Log-probabilities of the labels; with `scale_of` their gradient too. */
  void read_log_probs(const losses::ScaleOf& scale_of);
  /** Sums of a term; where its gradient is not taken yet it is added up for later. */
  losses::Sums sums_of(const LossTerm& term);
  losses::Sums apply(const PpoValueTerm& term);
  losses::Sums apply(const FullKlTerm& term);
  losses::Sums apply(const DpoTerm& term);
  losses::Sums apply(const KtoTerm& term);
  losses::Sums apply(const PairwiseRewardTerm& term);

  losses::RowScale scale_of(size_t row, const losses::RowLoss& loss) const;
  Labels labels() const;
  std::vector<double> document_sums(std::vector<double>* lengths) const;
  void check_pairs(const std::vector<int32_t>& pairs, size_t weights) const;
  double scale(double coefficient) const { return coefficient / options_.normalizer; }
  void add_hidden_gradient(const at::Tensor& gradient) {
    dhidden_ = dhidden_.defined() ? dhidden_.add_(gradient) : gradient;
  }
  void finish_values();

  models::Role& role_;
  const Batch& batch_;
  const BackwardOptions& options_;
  const core::Cancel& cancel_;
  std::vector<LossTerm> terms_;
  models::Tokens tokens_;
  at::Tensor rows_;
  Labelled labelled_;
  std::vector<int64_t> documents_;                    // [R]
  at::Tensor hidden_;                                 // [R, D]
  at::Tensor tempered_;                               // hidden / temperature
  std::vector<double> log_probs_, entropy_, values_;  // [R]
  std::vector<uint8_t> correct_;
  std::vector<double> dlog_probs_, dentropy_, dvalues_;  // [R], or empty: no gradient
  at::Tensor dhidden_;
};

/** The scalar head of a role; throws where there is none. */
nn::Parameter& score_of(models::Role& role);
/** hidden [R, D] through a scalar head, [R]. */
std::vector<double> read_score(const at::Tensor& hidden_RD, const nn::Parameter& score);

}  // namespace posttrain::train
