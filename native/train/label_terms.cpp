#include "train/label_terms.h"

#include <ATen/ATen.h>

namespace posttrain::train {
namespace {

std::vector<double> read_at(const std::vector<double>& of_tokens, const Batch& batch,
                            const Labelled& labelled, const char* name, bool needed) {
  TORCH_CHECK_VALUE(of_tokens.empty() || of_tokens.size() == batch.input_ids.size(), "[backward] ",
                    name, " has ", of_tokens.size(), " values for ", batch.input_ids.size(),
                    " tokens");
  TORCH_CHECK_VALUE(!needed || !of_tokens.empty() || labelled.rows.empty(), "[backward] ", name,
                    " is missing");
  std::vector<double> result;
  if (of_tokens.empty()) return result;
  for (const int64_t row : labelled.rows) result.push_back(of_tokens[static_cast<size_t>(row) + 1]);
  return result;
}

std::span<const double> part(const std::vector<double>& values, size_t from, size_t count) {
  return values.empty() ? std::span<const double>() : std::span(values).subspan(from, count);
}

losses::Sums loss_of(const CrossEntropyTerm& term, size_t, const Labels& labels, double scale,
                     const LabelGradient& gradient) {
  losses::Sums sums;
  double correct = 0, entropy = 0;
  for (size_t r = 0; r < labels.log_probs.size(); ++r) {
    sums.loss -= labels.weights[r] * labels.log_probs[r];
    sums.count += labels.weights[r];
    correct += labels.correct[r];
    entropy += labels.entropy[r];
    if (!gradient.log_probs.empty())
      gradient.log_probs[r] -= scale * term.coefficient * labels.weights[r];
  }
  sums.more = {{"correct", correct},
               {"entropy", entropy},
               {"labels", static_cast<double>(labels.log_probs.size())}};
  return sums;
}

losses::Sums loss_of(const WeightedLogProbTerm& term, size_t from, const Labels& labels,
                     double scale, const LabelGradient& gradient) {
  losses::Sums sums;
  for (size_t r = 0; r < labels.log_probs.size(); ++r) {
    const double weight = term.weights[from + r];
    sums.loss -= weight * labels.log_probs[r];
    sums.count += 1;
    if (!gradient.log_probs.empty()) gradient.log_probs[r] -= scale * term.coefficient * weight;
  }
  return sums;
}

losses::Sums loss_of(const PpoPolicyTerm& term, size_t from, const Labels& labels, double scale,
                     const LabelGradient& gradient) {
  const size_t count = labels.log_probs.size();
  auto sums = losses::ppo_policy(
      {labels.log_probs, part(term.old_log_probs, from, count), part(term.advantages, from, count),
       labels.weights, part(term.importance, from, count), labels.documents},
      term.options, scale * term.coefficient, gradient.log_probs);
  double entropy = 0, all_entropy = 0;
  for (size_t r = 0; r < count; ++r) {
    entropy += labels.weights[r] * labels.entropy[r];
    all_entropy += labels.entropy[r];
    if (!gradient.entropy.empty())
      gradient.entropy[r] -=
          scale * term.coefficient * term.entropy_coefficient * labels.weights[r];
  }
  sums.loss -= term.entropy_coefficient * entropy;
  sums.more.emplace_back("entropy", all_entropy);
  sums.more.emplace_back("labels", static_cast<double>(count));
  return sums;
}

losses::Sums loss_of(const KlTerm& term, size_t from, const Labels& labels, double scale,
                     const LabelGradient& gradient) {
  const size_t count = labels.log_probs.size();
  return losses::kl_penalty(labels.log_probs, part(term.reference_log_probs, from, count),
                            part(term.old_log_probs, from, count), labels.weights, term.estimator,
                            scale * term.coefficient, gradient.log_probs);
}

template <class Term>
concept OfLabels = requires(const Term& term, const Labels& labels) {
  loss_of(term, size_t{}, labels, 0.0, LabelGradient{});
};

}  // namespace

bool reads_labels(const LossTerm& term) {
  return std::visit([]<class Term>(const Term&) { return OfLabels<Term>; }, term);
}

bool is_label_by_label(const LossTerm& term) {
  const auto* policy = std::get_if<PpoPolicyTerm>(&term);
  return reads_labels(term) && (policy == nullptr || !policy->options.sequence);
}

LossTerm at_labels(const LossTerm& term, const Batch& batch, const Labelled& labelled) {
  auto result = term;
  const auto read = [&](std::vector<double>& values, const char* name, bool needed = true) {
    values = read_at(values, batch, labelled, name, needed);
  };
  if (auto* weighted = std::get_if<WeightedLogProbTerm>(&result)) {
    read(weighted->weights, "weights");
  } else if (auto* policy = std::get_if<PpoPolicyTerm>(&result)) {
    read(policy->old_log_probs, "oldLogProbs");
    read(policy->advantages, "advantages");
    read(policy->importance, "importance", false);
  } else if (auto* kl = std::get_if<KlTerm>(&result)) {
    read(kl->reference_log_probs, "referenceLogProbs");
    read(kl->old_log_probs, "oldLogProbs", false);
  } else if (auto* value = std::get_if<PpoValueTerm>(&result)) {
    read(value->old_values, "oldValues");
    read(value->returns, "returns");
  }
  return result;
}

losses::Sums label_loss(const LossTerm& term, size_t from, const Labels& labels, double scale,
                        const LabelGradient& gradient) {
  return std::visit(
      [&]<class Term>(const Term& kind) -> losses::Sums {
        if constexpr (OfLabels<Term>) return loss_of(kind, from, labels, scale, gradient);
        TORCH_CHECK(false, "[backward] this term does not read labels");
      },
      term);
}

}  // namespace posttrain::train
