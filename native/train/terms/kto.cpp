#include "train/terms/kto.h"

#include <c10/util/Exception.h>

#include "train/terms/documents.h"

namespace posttrain::train {

KtoTerm KtoTerm::read(const Fields& fields) {
  return {.options = {.beta = fields.number("beta"),
                      .desirable_weight = fields.number("desirableWeight", 1),
                      .undesirable_weight = fields.number("undesirableWeight", 1),
                      .kl = fields.number("kl")},
          .desirable = fields.bytes("desirable"),
          .reference_sums = fields.doubles("referenceSums")};
}

Needs KtoTerm::needs() const { return {.reads = Reads::all_labels}; }

losses::Sums KtoTerm::loss(const Outputs& outputs, const Gradient& gradient) const {
  const size_t documents = outputs.document_count;
  TORCH_CHECK_VALUE(desirable.size() == documents && reference_sums.size() == documents,
                    "[kto] needs desirable and referenceSums of ", documents, " documents");
  const double scale = coefficient / gradient.normalizer;
  std::vector<double> derivatives(documents, 0);
  const auto sums_D = document_sums(outputs);
  losses::Sums sums;
  double all_desirable = 0, desirable_reward = 0, undesirable_reward = 0;
  for (size_t d = 0; d < documents; ++d) {
    const bool good = desirable[d] != 0;
    const auto loss = losses::kto_loss(sums_D[d], reference_sums[d], good, options);
    const double reward = options.beta * (sums_D[d] - reference_sums[d]);
    sums.loss += loss.loss;
    sums.count += 1;
    derivatives[d] = scale * loss.slope;
    all_desirable += good;
    (good ? desirable_reward : undesirable_reward) += reward;
  }
  add_by_document(derivatives, outputs, gradient);
  sums.more = {{"desirable", all_desirable},
               {"desirableReward", desirable_reward},
               {"undesirableReward", undesirable_reward}};
  return sums;
}

}  // namespace posttrain::train
