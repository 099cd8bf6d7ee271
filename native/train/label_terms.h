#pragma once
#include <span>

#include "losses/cross_entropy.h"
#include "train/batch.h"
#include "train/terms.h"

namespace posttrain::train {

/** What the model says of R labels, and what each of them weighs. */
struct Labels {
  std::span<const double> log_probs, entropy, weights;
  std::span<const uint8_t> correct;
  std::span<const int64_t> documents;
};

/** Where the derivatives by log p and by the entropy of each label are added; empty: nowhere. */
struct LabelGradient {
  std::span<double> log_probs, entropy;
};

/** Terms over the log-probabilities of labels: crossEntropy, weightedLogProb, ppoPolicy, kl. */
bool reads_labels(const LossTerm& term);
/** Those whose loss of a label needs that label alone, so that its gradient is known with it. */
bool is_label_by_label(const LossTerm& term);
/** The same term with its vectors of tokens read at the labels; throws where they do not fit. */
LossTerm at_labels(const LossTerm& term, const Batch& batch, const Labelled& labelled);
/** Sums of a term from at_labels() over labels [from, from + labels.log_probs.size()). */
losses::Sums label_loss(const LossTerm& term, size_t from, const Labels& labels, double scale,
                        const LabelGradient& gradient);

}  // namespace posttrain::train
