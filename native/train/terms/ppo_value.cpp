#include "train/terms/ppo_value.h"

#include "losses/ppo.h"

namespace posttrain::train {

PpoValueTerm PpoValueTerm::read(const Fields& fields) {
  return {.clip = fields.number_or_none("clip"),
          .old_values = fields.doubles("oldValues"),
          .returns = fields.doubles("returns")};
}

Needs PpoValueTerm::needs() {
  return {.reads = Reads::values, .of_tokens = {{"oldValues", &old_values}, {"returns", &returns}}};
}

losses::Sums PpoValueTerm::loss(const Outputs& outputs, const Gradient& gradient) const {
  return losses::ppo_value(outputs.values, old_values, returns, outputs.weights, clip,
                           coefficient / gradient.normalizer, gradient.values);
}

}  // namespace posttrain::train
