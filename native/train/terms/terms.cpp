#include "train/terms/terms.h"

#include <c10/util/Exception.h>

#include <cmath>

namespace posttrain::train {
namespace {

template <Term T>
LossTerm read_as(const Fields& fields) {
  const double coefficient = fields.number("coefficient", 1);
  TORCH_CHECK_VALUE(std::isfinite(coefficient), "[", T::kKind, "] coefficient must be finite, got ",
                    coefficient);
  auto term = T::read(fields);
  term.coefficient = coefficient;
  return term;
}

template <size_t I>
LossTerm read_from(const std::string& kind, const Fields& fields) {
  if constexpr (I < std::variant_size_v<LossTerm>) {
    using T = std::variant_alternative_t<I, LossTerm>;
    return kind == T::kKind ? read_as<T>(fields) : read_from<I + 1>(kind, fields);
  }
  TORCH_CHECK_VALUE(false, "[backward] unknown loss term kind ", kind);
}

}  // namespace

LossTerm read_term(const Fields& fields) { return read_from<0>(fields.string("kind"), fields); }

Needs needs_of(LossTerm& term) {
  return std::visit([](Term auto& kind) { return kind.needs(); }, term);
}

losses::Sums loss_of(const LossTerm& term, const Outputs& outputs, const Gradient& gradient) {
  return std::visit([&](const Term auto& kind) { return kind.loss(outputs, gradient); }, term);
}

}  // namespace posttrain::train
