#include "train/terms/cross_entropy.h"

#include "train/batch.h"

namespace posttrain::train {

CrossEntropyTerm CrossEntropyTerm::read(const Fields& fields) {
  return {.ignore_index = fields.integer("ignoreIndex", kIgnoreIndex)};
}

Needs CrossEntropyTerm::needs() const {
  return {.reads = Reads::linear_label, .ignore_index = ignore_index};
}

losses::Sums CrossEntropyTerm::loss(const Outputs& outputs, const Gradient& gradient) const {
  const double scale = 1 / gradient.normalizer * coefficient;
  losses::Sums sums;
  double correct = 0, entropy = 0;
  for (size_t r = 0; r < outputs.log_probs.size(); ++r) {
    sums.loss -= outputs.weights[r] * outputs.log_probs[r];
    sums.count += outputs.weights[r];
    correct += outputs.correct[r];
    entropy += outputs.entropy[r];
    if (!gradient.log_probs.empty()) gradient.log_probs[r] -= scale * outputs.weights[r];
  }
  sums.more = {{"correct", correct},
               {"entropy", entropy},
               {"labels", static_cast<double>(outputs.log_probs.size())}};
  return sums;
}

}  // namespace posttrain::train
