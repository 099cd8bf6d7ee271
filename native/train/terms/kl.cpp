#include "train/terms/kl.h"

namespace posttrain::train {

KlTerm KlTerm::read(const Fields& fields) {
  return {.estimator = losses::kl_estimator_of(fields.string("estimator")),
          .reference_log_probs = fields.doubles("referenceLogProbs"),
          .old_log_probs = fields.doubles("oldLogProbs")};
}

Needs KlTerm::needs() {
  return {.reads = Reads::each_label,
          .of_tokens = {{"referenceLogProbs", &reference_log_probs},
                        {.name = "oldLogProbs", .values = &old_log_probs, .required = false}}};
}

losses::Sums KlTerm::loss(const Outputs& outputs, const Gradient& gradient) const {
  return losses::kl_penalty(outputs.log_probs, outputs.part(reference_log_probs),
                            outputs.part(old_log_probs), outputs.weights, estimator,
                            1 / gradient.normalizer * coefficient, gradient.log_probs);
}

}  // namespace posttrain::train
