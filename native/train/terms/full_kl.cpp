#include "train/terms/full_kl.h"

#include "losses/linear_kl.h"
#include "models/role.h"
#include "train/terms/hidden_states.h"

namespace posttrain::train {

FullKlTerm FullKlTerm::read(const Fields& fields) {
  return {.direction = losses::kl_direction_of(fields.string("direction")),
          .reference = fields.role("reference")};
}

Needs FullKlTerm::needs() const { return {.reads = Reads::hidden}; }

losses::Sums FullKlTerm::loss(const Outputs& outputs, const Gradient& gradient) const {
  losses::Sums sums;
  if (outputs.hidden == nullptr) return sums;
  const auto& [tokens, rows_R, hidden_RD, head, cancel] = *outputs.hidden;
  const auto reference_RD = reference->base->forward(tokens, rows_R, reference->active_adapter(),
                                                     nullptr, nullptr, cancel);
  std::vector<double> scales;
  for (const double weight : outputs.weights)
    scales.push_back(weight * (coefficient / gradient.normalizer));
  const bool wanted = gradient.hidden != nullptr;
  auto kl = losses::linear_kl(
      hidden_RD, head, reference_RD,
      reference->base->head(reference->active_adapter()).at_temperature(head.temperature),
      direction, scales, wanted, cancel);
  for (size_t r = 0; r < kl.kl.size(); ++r) {
    sums.loss += outputs.weights[r] * kl.kl[r];
    sums.count += outputs.weights[r];
  }
  if (wanted) add_to(*gradient.hidden, kl.dhidden_RD);
  return sums;
}

}  // namespace posttrain::train
