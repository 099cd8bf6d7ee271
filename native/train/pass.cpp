#include "train/pass.h"

#include <algorithm>
#include <cmath>

#include "core/matmul.h"
#include "losses/linear_cross_entropy.h"
#include "losses/linear_kl.h"

namespace posttrain::train {
namespace {

template <class Term>
bool any_of(const std::vector<LossTerm>& terms) {
  return std::any_of(terms.begin(), terms.end(),
                     [](const auto& term) { return std::holds_alternative<Term>(term); });
}

bool reads_log_probs(const LossTerm& term) {
  return reads_labels(term) || std::holds_alternative<DpoTerm>(term) ||
         std::holds_alternative<KtoTerm>(term);
}

void check(const std::vector<LossTerm>& terms, const BackwardOptions& options) {
  TORCH_CHECK_VALUE(!terms.empty(), "[backward] there is no loss term");
  TORCH_CHECK_VALUE(options.normalizer > 0 && std::isfinite(options.normalizer),
                    "[backward] the normalizer must be finite and above 0, got ",
                    options.normalizer);
  TORCH_CHECK_VALUE(options.temperature > 0 && std::isfinite(options.temperature),
                    "[backward] the temperature must be finite and above 0, got ",
                    options.temperature);
  for (const auto& term : terms) {
    TORCH_CHECK_VALUE(
        std::holds_alternative<PairwiseRewardTerm>(term) ==
            std::holds_alternative<PairwiseRewardTerm>(terms[0]),
        "[backward] pairwiseReward reads other tokens than the other terms: give it alone");
  }
}

}  // namespace

nn::Parameter& score_of(models::Role& role) {
  TORCH_CHECK_VALUE(role.score() != nullptr, "[backward] this needs a model with a scalar head");
  return *role.score();
}

std::vector<double> read_score(const at::Tensor& hidden_RD, const nn::Parameter& score) {
  const auto values = at::mv(hidden_RD.to(score.value.scalar_type()), score.value.squeeze(0))
                          .to(at::kCPU, at::kDouble)
                          .contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

void Pass::read_rows(const std::vector<LossTerm>& terms) {
  auto& decoder = *role_.base;
  tokens_ = models::tokens_of(batch_.input_ids, batch_.offsets, decoder.spec().vocab_size,
                              decoder.device());
  if (any_of<PairwiseRewardTerm>(terms)) {
    for (size_t d = 0; d + 1 < batch_.offsets.size(); ++d) {
      labelled_.rows.push_back(batch_.offsets[d + 1] - 1);
      documents_.push_back(static_cast<int64_t>(d));
    }
  } else {
    const auto* first = std::get_if<CrossEntropyTerm>(&terms[0]);
    labelled_ = labelled_of(batch_, first == nullptr ? -100 : first->ignore_index,
                            decoder.spec().vocab_size);
    size_t document = 0;
    for (const int64_t row : labelled_.rows) {
      while (batch_.offsets[document + 1] <= row) ++document;
      documents_.push_back(static_cast<int64_t>(document));
    }
  }
  for (const auto& term : terms) terms_.push_back(at_labels(term, batch_, labelled_));
}

std::vector<losses::Sums> Pass::run(const std::vector<LossTerm>& terms) {
  check(terms, options_);
  auto& decoder = *role_.base;
  read_rows(terms);
  std::vector<losses::Sums> results;
  const size_t count = labelled_.rows.size();
  if (count == 0) {
    for (const auto& term : terms_) results.push_back(sums_of(term));
    return results;
  }
  const bool scored = any_of<PpoValueTerm>(terms_) || any_of<PairwiseRewardTerm>(terms_);
  if (scored) score_of(role_);
  rows_ = at::tensor(labelled_.rows, at::kLong).to(decoder.device());
  models::DecoderTrace trace;
  trace.checkpointing = options_.checkpointing;
  // A backward that works adds to gradients that an earlier one may have spoilt: only zero_grad()
  // cleans them.
  const bool spoilt = role_.gradients_dirty;
  if (options_.gradient) role_.gradients_dirty = true;
  const auto pass = role_.pass(options_.dropout_seed);
  hidden_ =
      decoder.forward(tokens_, rows_, pass, options_.gradient ? &trace : nullptr, nullptr, cancel_);
  tempered_ = options_.temperature == 1 ? hidden_ : hidden_ / options_.temperature;

  const bool log_probs = std::any_of(terms_.begin(), terms_.end(), reads_log_probs);
  // Where each label's gradient is known with the label, its logits are made once.
  const bool at_once = std::all_of(terms_.begin(), terms_.end(), [](const auto& term) {
    return is_label_by_label(term) || !reads_log_probs(term);
  });
  if (log_probs) {
    if (options_.gradient && at_once) {
      read_log_probs([&](int64_t r, const losses::RowLoss& loss) {
        return scale_of(static_cast<size_t>(r), loss);
      });
    } else {
      read_log_probs({});
      if (options_.gradient) {
        dlog_probs_.assign(count, 0);
        dentropy_.assign(count, 0);
      }
    }
  }
  if (scored) {
    values_ = read_score(hidden_, score_of(role_));
    if (options_.gradient) dvalues_.assign(count, 0);
  }
  for (const auto& term : terms_) results.push_back(sums_of(term));
  if (!options_.gradient) return results;
  if (!dlog_probs_.empty()) {
    read_log_probs([&](int64_t r, const losses::RowLoss&) {
      return losses::RowScale{-dlog_probs_[r], dentropy_[r]};
    });
  }
  if (!dvalues_.empty()) finish_values();
  if (dhidden_.defined()) decoder.backward(tokens_, rows_, pass, dhidden_, trace, cancel_);
  role_.gradients_dirty = spoilt;
  return results;
}

void Pass::read_log_probs(const losses::ScaleOf& scale_of) {
  auto loss = losses::linear_cross_entropy(tempered_, role_.base->head(), labelled_.targets,
                                           scale_of, cancel_);
  log_probs_.clear();
  for (const double nll : loss.nll) log_probs_.push_back(-nll);
  entropy_ = std::move(loss.entropy);
  correct_ = std::move(loss.correct);
  if (!scale_of) return;
  add_hidden_gradient(options_.temperature == 1 ? loss.dhidden_RD
                                                : loss.dhidden_RD.div_(options_.temperature));
}

losses::RowScale Pass::scale_of(size_t row, const losses::RowLoss& loss) const {
  const double log_prob = -loss.nll;
  const uint8_t correct = loss.correct;
  const Labels label{std::span(&log_prob, 1), std::span(&loss.entropy, 1),
                     std::span(labelled_.weights).subspan(row, 1), std::span(&correct, 1),
                     std::span(documents_).subspan(row, 1)};
  double by_log_prob = 0, by_entropy = 0;
  for (const auto& term : terms_) {
    if (reads_labels(term))
      label_loss(term, row, label, scale(1),
                 {std::span(&by_log_prob, 1), std::span(&by_entropy, 1)});
  }
  return {-by_log_prob, by_entropy};
}

Labels Pass::labels() const {
  return {log_probs_, entropy_, labelled_.weights, correct_, documents_};
}

void Pass::finish_values() {
  auto& score = score_of(role_);
  const auto dvalues_R1 = at::tensor(dvalues_, at::kDouble)
                              .to(score.value.device(), score.value.scalar_type())
                              .unsqueeze(1);
  if (score.trainable)
    core::add_transposed_product(score.gradient(), dvalues_R1,
                                 hidden_.to(score.value.scalar_type()));
  add_hidden_gradient(at::mm(dvalues_R1, score.value).to(hidden_.scalar_type()));
}

losses::Sums Pass::sums_of(const LossTerm& term) {
  if (reads_labels(term)) return label_loss(term, 0, labels(), scale(1), {dlog_probs_, dentropy_});
  return std::visit(
      [&]<class Term>(const Term& kind) -> losses::Sums {
        if constexpr (requires { apply(kind); }) return apply(kind);
        TORCH_CHECK(false, "[backward] this term has no loss here");
      },
      term);
}

losses::Sums Pass::apply(const PpoValueTerm& term) {
  return losses::ppo_value(values_, term.old_values, term.returns, labelled_.weights, term.clip,
                           scale(term.coefficient), dvalues_);
}

losses::Sums Pass::apply(const FullKlTerm& term) {
  losses::Sums sums;
  if (labelled_.rows.empty()) return sums;
  auto& other = *term.reference;
  auto& decoder = *role_.base;
  const auto reference =
      other.base->forward(tokens_, rows_, other.pass(), nullptr, nullptr, cancel_)
          .div_(options_.temperature);
  std::vector<double> scales;
  for (const double weight : labelled_.weights) scales.push_back(weight * scale(term.coefficient));
  auto kl = losses::linear_kl(tempered_, decoder.head(), reference, other.base->head().value,
                              term.forward, scales, options_.gradient, cancel_);
  for (size_t r = 0; r < kl.kl.size(); ++r) {
    sums.loss += labelled_.weights[r] * kl.kl[r];
    sums.count += labelled_.weights[r];
  }
  if (options_.gradient) add_hidden_gradient(kl.dhidden_RD.div_(options_.temperature));
  return sums;
}

}  // namespace posttrain::train
