#include "train/terms/dpo.h"

#include <c10/util/Exception.h>

#include "train/terms/documents.h"

namespace posttrain::train {

losses::DpoOptions dpo_options_of(const Fields& fields) {
  auto options = losses::dpo_entry(fields.string("loss")).defaults;
  options.beta = fields.number("beta", options.beta);
  options.label_smoothing = fields.number("labelSmoothing", options.label_smoothing);
  options.gamma = fields.number("gamma", options.gamma);
  options.lambda = fields.number("lambda", options.lambda);
  losses::check(options);
  return options;
}

DpoTerm DpoTerm::read(const Fields& fields) {
  return {.options = dpo_options_of(fields),
          .pairs = fields.int32s("pairs"),
          .weights = fields.doubles("weights"),
          .reference_sums = fields.doubles("referenceSums")};
}

Needs DpoTerm::needs() const { return {.reads = Reads::all_labels}; }

losses::Sums DpoTerm::loss(const Outputs& outputs, const Gradient& gradient) const {
  check_pairs(pairs, weights.size(), outputs.document_count);
  const auto& entry = losses::dpo_entry(options.kind);
  const bool referenced = !entry.reference_free;
  TORCH_CHECK_VALUE(!referenced || reference_sums.size() == outputs.document_count,
                    "[dpo] needs referenceSums of ", outputs.document_count, " documents, got ",
                    reference_sums.size());
  const double scale = coefficient / gradient.normalizer;
  std::vector<double> lengths, derivatives(outputs.document_count, 0);
  const auto sums_D = document_sums(outputs, &lengths);
  // Implicit reward / beta; without a reference the quantity that the loss compares (SimPO, CPO).
  const auto reward = [&](double log_prob, double reference, double length) {
    if (referenced) return log_prob - reference;
    return entry.lengths ? log_prob / length : log_prob;
  };
  losses::Sums sums;
  double correct = 0, chosen_reward = 0, rejected_reward = 0, chosen = 0, rejected = 0;
  for (size_t p = 0; 2 * p < pairs.size(); ++p) {
    const auto better = static_cast<size_t>(pairs[2 * p]);
    const auto worse = static_cast<size_t>(pairs[2 * p + 1]);
    TORCH_CHECK_VALUE(lengths[better] > 0 && lengths[worse] > 0, "[dpo] a response of pair ", p,
                      " has no label");
    const double weight = weights.empty() ? 1 : weights[p];
    losses::PairInput pair{sums_D[better], sums_D[worse]};
    if (referenced) {
      pair.chosen_reference = reference_sums[better];
      pair.rejected_reference = reference_sums[worse];
    }
    pair.chosen_length = lengths[better];
    pair.rejected_length = lengths[worse];
    const auto loss = losses::dpo_loss(pair, options);
    sums.loss += weight * loss.loss;
    sums.count += weight;
    derivatives[better] += scale * weight * loss.chosen;
    derivatives[worse] += scale * weight * loss.rejected;
    const double of_better = reward(pair.chosen, pair.chosen_reference, pair.chosen_length);
    const double of_worse = reward(pair.rejected, pair.rejected_reference, pair.rejected_length);
    correct += weight * (of_better > of_worse);
    chosen_reward += weight * options.beta * of_better;
    rejected_reward += weight * options.beta * of_worse;
    chosen += weight * pair.chosen;
    rejected += weight * pair.rejected;
  }
  add_by_document(derivatives, outputs, gradient);
  sums.more = {{"correct", correct},
               {"chosenReward", chosen_reward},
               {"rejectedReward", rejected_reward},
               {"chosenLogProb", chosen},
               {"rejectedLogProb", rejected}};
  return sums;
}

}  // namespace posttrain::train
