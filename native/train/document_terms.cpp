#include <algorithm>
#include <cmath>

#include "train/pass.h"

namespace posttrain::train {

std::vector<double> Pass::document_sums(std::vector<double>* lengths) const {
  const size_t documents = batch_.offsets.size() - 1;
  std::vector<double> sums(documents, 0);
  if (lengths != nullptr) lengths->assign(documents, 0);
  for (size_t r = 0; r < documents_.size(); ++r) {
    sums[static_cast<size_t>(documents_[r])] += log_probs_[r];
    if (lengths != nullptr) (*lengths)[static_cast<size_t>(documents_[r])] += 1;
  }
  return sums;
}

void Pass::check_pairs(const std::vector<int32_t>& pairs, size_t weights) const {
  TORCH_CHECK_VALUE(pairs.size() % 2 == 0, "[backward] pairs has an odd number of entries");
  TORCH_CHECK_VALUE(weights == 0 || 2 * weights == pairs.size(), "[backward] ", weights,
                    " weights for ", pairs.size() / 2, " pairs");
  const auto documents = static_cast<int32_t>(batch_.offsets.size() - 1);
  for (const int32_t document : pairs) {
    TORCH_CHECK_VALUE(document >= 0 && document < documents, "[backward] pairs names document ",
                      document, " of ", documents);
  }
}

losses::Sums Pass::apply(const DpoTerm& term) {
  losses::check(term.options);
  check_pairs(term.pairs, term.weights.size());
  const size_t documents = batch_.offsets.size() - 1;
  const auto& entry = losses::dpo_entry(term.options.kind);
  const bool referenced = !entry.reference_free;
  TORCH_CHECK_VALUE(!referenced || term.reference_sums.size() == documents,
                    "[dpo] needs referenceSums of ", documents, " documents, got ",
                    term.reference_sums.size());
  std::vector<double> lengths, gradient(documents, 0);
  const auto sums_D = document_sums(&lengths);
  // Implicit reward by beta. Without a reference it is what the loss compares, as in SimPO and CPO.
  const auto reward = [&](double log_prob, double reference, double length) {
    if (referenced) return log_prob - reference;
    return entry.lengths ? log_prob / length : log_prob;
  };
  losses::Sums sums;
  double correct = 0, chosen_reward = 0, rejected_reward = 0, chosen = 0, rejected = 0;
  for (size_t p = 0; 2 * p < term.pairs.size(); ++p) {
    const auto better = static_cast<size_t>(term.pairs[2 * p]);
    const auto worse = static_cast<size_t>(term.pairs[2 * p + 1]);
    TORCH_CHECK_VALUE(lengths[better] > 0 && lengths[worse] > 0, "[dpo] an answer of pair ", p,
                      " has no label");
    const double weight = term.weights.empty() ? 1 : term.weights[p];
    losses::PairInput pair{sums_D[better], sums_D[worse]};
    if (referenced) {
      pair.chosen_reference = term.reference_sums[better];
      pair.rejected_reference = term.reference_sums[worse];
    }
    pair.chosen_length = lengths[better];
    pair.rejected_length = lengths[worse];
    const auto loss = losses::dpo_loss(pair, term.options);
    sums.loss += weight * loss.loss;
    sums.count += weight;
    gradient[better] += scale(term.coefficient) * weight * loss.chosen;
    gradient[worse] += scale(term.coefficient) * weight * loss.rejected;
    const double of_better = reward(pair.chosen, pair.chosen_reference, pair.chosen_length);
    const double of_worse = reward(pair.rejected, pair.rejected_reference, pair.rejected_length);
    correct += weight * (of_better > of_worse);
    chosen_reward += weight * term.options.beta * of_better;
    rejected_reward += weight * term.options.beta * of_worse;
    chosen += weight * pair.chosen;
    rejected += weight * pair.rejected;
  }
  for (size_t r = 0; r < dlog_probs_.size(); ++r)
    dlog_probs_[r] += gradient[static_cast<size_t>(documents_[r])];
  sums.more = {{"correct", correct},
               {"chosenReward", chosen_reward},
               {"rejectedReward", rejected_reward},
               {"chosenLogProb", chosen},
               {"rejectedLogProb", rejected}};
  return sums;
}

losses::Sums Pass::apply(const KtoTerm& term) {
  const size_t documents = batch_.offsets.size() - 1;
  TORCH_CHECK_VALUE(term.desirable.size() == documents && term.reference_sums.size() == documents,
                    "[kto] needs desirable and referenceSums of ", documents, " documents");
  std::vector<double> gradient(documents, 0);
  const auto sums_D = document_sums(nullptr);
  losses::Sums sums;
  double desirable = 0, desirable_reward = 0, undesirable_reward = 0;
  for (size_t d = 0; d < documents; ++d) {
    const bool good = term.desirable[d] != 0;
    const auto loss = losses::kto_loss(sums_D[d], term.reference_sums[d], good, term.options);
    const double reward = term.options.beta * (sums_D[d] - term.reference_sums[d]);
    sums.loss += loss.loss;
    sums.count += 1;
    gradient[d] = scale(term.coefficient) * loss.slope;
    desirable += good;
    (good ? desirable_reward : undesirable_reward) += reward;
  }
  for (size_t r = 0; r < dlog_probs_.size(); ++r)
    dlog_probs_[r] += gradient[static_cast<size_t>(documents_[r])];
  sums.more = {{"desirable", desirable},
               {"desirableReward", desirable_reward},
               {"undesirableReward", undesirable_reward}};
  return sums;
}

losses::Sums Pass::apply(const PairwiseRewardTerm& term) {
  check_pairs(term.pairs, term.weights.size());
  TORCH_CHECK_VALUE(term.margins.empty() || 2 * term.margins.size() == term.pairs.size(),
                    "[pairwiseReward] ", term.margins.size(), " margins for ",
                    term.pairs.size() / 2, " pairs");
  losses::Sums sums;
  double correct = 0, margin = 0;
  for (size_t p = 0; 2 * p < term.pairs.size(); ++p) {
    const auto better = static_cast<size_t>(term.pairs[2 * p]);
    const auto worse = static_cast<size_t>(term.pairs[2 * p + 1]);
    const double weight = term.weights.empty() ? 1 : term.weights[p];
    const auto loss = losses::pairwise_reward_loss(
        values_[better], values_[worse], term.margins.empty() ? 0 : term.margins[p], term.center);
    sums.loss += weight * loss.loss;
    sums.count += weight;
    if (!dvalues_.empty()) {
      dvalues_[better] += scale(term.coefficient) * weight * loss.chosen;
      dvalues_[worse] += scale(term.coefficient) * weight * loss.rejected;
    }
    correct += weight * (values_[better] > values_[worse]);
    margin += weight * (values_[better] - values_[worse]);
  }
  double sum = 0, lowest = INFINITY, highest = -INFINITY;
  for (const double value : values_) {
    sum += value;
    lowest = std::min(lowest, value);
    highest = std::max(highest, value);
  }
  sums.more = {{"correct", correct},  {"margin", margin},
               {"rewards", sum},      {"documents", static_cast<double>(values_.size())},
               {"minReward", lowest}, {"maxReward", highest}};
  return sums;
}

}  // namespace posttrain::train
