#include "train/terms/weighted_log_prob.h"

namespace posttrain::train {

WeightedLogProbTerm WeightedLogProbTerm::read(const Fields& fields) {
  return {.weights = fields.doubles("weights")};
}

Needs WeightedLogProbTerm::needs() {
  return {.reads = Reads::linear_label, .of_tokens = {{"weights", &weights}}};
}

losses::Sums WeightedLogProbTerm::loss(const Outputs& outputs, const Gradient& gradient) const {
  const double scale = 1 / gradient.normalizer * coefficient;
  const auto weights_R = outputs.part(weights);
  losses::Sums sums;
  for (size_t r = 0; r < outputs.log_probs.size(); ++r) {
    sums.loss -= weights_R[r] * outputs.log_probs[r];
    sums.count += 1;
    if (!gradient.log_probs.empty()) gradient.log_probs[r] -= scale * weights_R[r];
  }
  return sums;
}

}  // namespace posttrain::train
