#include "train/terms/pairwise_reward.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

#include "losses/preference.h"
#include "train/terms/documents.h"

namespace posttrain::train {

PairwiseRewardTerm PairwiseRewardTerm::read(const Fields& fields) {
  return {.center = fields.number("center", 0),
          .pairs = fields.int32s("pairs"),
          .margins = fields.doubles("margins"),
          .weights = fields.doubles("weights")};
}

Needs PairwiseRewardTerm::needs() const { return {.reads = Reads::scores}; }

losses::Sums PairwiseRewardTerm::loss(const Outputs& outputs, const Gradient& gradient) const {
  check_pairs(pairs, weights.size(), outputs.document_count);
  TORCH_CHECK_VALUE(margins.empty() || 2 * margins.size() == pairs.size(), "[pairwiseReward] ",
                    margins.size(), " margins for ", pairs.size() / 2, " pairs");
  const double scale = coefficient / gradient.normalizer;
  const auto scores = outputs.values;  // [D]
  losses::Sums sums;
  double correct = 0, margin = 0;
  for (size_t p = 0; 2 * p < pairs.size(); ++p) {
    const auto better = static_cast<size_t>(pairs[2 * p]);
    const auto worse = static_cast<size_t>(pairs[2 * p + 1]);
    const double weight = weights.empty() ? 1 : weights[p];
    const auto loss = losses::pairwise_reward_loss(scores[better], scores[worse],
                                                   margins.empty() ? 0 : margins[p], center);
    sums.loss += weight * loss.loss;
    sums.count += weight;
    if (!gradient.values.empty()) {
      gradient.values[better] += scale * weight * loss.chosen;
      gradient.values[worse] += scale * weight * loss.rejected;
    }
    correct += weight * (scores[better] > scores[worse]);
    margin += weight * (scores[better] - scores[worse]);
  }
  double sum = 0, lowest = INFINITY, highest = -INFINITY;
  for (const double score : scores) {
    sum += score;
    lowest = std::min(lowest, score);
    highest = std::max(highest, score);
  }
  sums.more = {{"correct", correct},  {"margin", margin},
               {"rewards", sum},      {"documents", static_cast<double>(scores.size())},
               {"minReward", lowest}, {"maxReward", highest}};
  return sums;
}

}  // namespace posttrain::train
