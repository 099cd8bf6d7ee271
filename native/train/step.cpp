#include "train/step.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "losses/linear_cross_entropy.h"
#include "losses/linear_kl.h"
#include "nn/linear.h"

namespace posttrain::train {
namespace {

at::Tensor index_of(const std::vector<int64_t>& rows, at::Device device) {
  return at::tensor(rows, at::kLong).to(device);
}

models::Tokens tokens_of(models::Role& role, const Batch& batch) {
  const auto& base = *role.base;
  return models::tokens_of(batch.input_ids, batch.offsets, base.spec().vocab_size, base.device());
}

nn::Parameter& score_of(models::Role& role) {
  TORCH_CHECK_VALUE(role.score() != nullptr, "[backward] this needs a model with a scalar head");
  return *role.score();
}

/** hidden [R, D] through the scalar head, [R]. */
std::vector<double> read_score(const at::Tensor& hidden_RD, const nn::Parameter& score) {
  const auto values = at::mv(hidden_RD.to(score.value.scalar_type()), score.value.squeeze(0))
                          .to(at::kCPU, at::kDouble)
                          .contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

/** What the terms of one backward share: the rows read, and the gradients that they add up. */
class Pass {
 public:
  Pass(models::Role& role, const Batch& batch, const BackwardOptions& options,
       const core::Cancel& cancel)
      : role_(role), batch_(batch), options_(options), cancel_(cancel) {}

  std::vector<losses::Sums> run(const std::vector<LossTerm>& terms);

 private:
  // One overload for each kind of term.
  losses::Sums apply(const CrossEntropyTerm& term);
  losses::Sums apply(const WeightedLogProbTerm& term);
  losses::Sums apply(const PpoPolicyTerm& term);
  losses::Sums apply(const PpoValueTerm& term);
  losses::Sums apply(const KlTerm& term);
  losses::Sums apply(const FullKlTerm& term);
  losses::Sums apply(const DpoTerm& term);
  losses::Sums apply(const KtoTerm& term);
  losses::Sums apply(const PairwiseRewardTerm& term);

  /** Values of the labels out of a vector of all tokens; empty stays empty. */
  std::vector<double> of_labels(const std::vector<double>& of_tokens, const char* name) const;
  std::vector<double> document_sums(std::vector<double>* lengths) const;
  void check_pairs(const std::vector<int32_t>& pairs, size_t weights) const;
  double scale(double coefficient) const { return coefficient / options_.normalizer; }
  std::span<double> log_prob_gradient() {
    return options_.gradient ? std::span<double>(dlog_probs_) : std::span<double>();
  }
  std::span<double> value_gradient() {
    return options_.gradient ? std::span<double>(dvalues_) : std::span<double>();
  }
  void add_hidden_gradient(const at::Tensor& gradient) {
    dhidden_ = dhidden_.defined() ? dhidden_.add_(gradient) : gradient;
  }
  void finish_gradients();

  models::Role& role_;
  const Batch& batch_;
  const BackwardOptions& options_;
  const core::Cancel& cancel_;
  models::Tokens tokens_;
  at::Tensor rows_;
  Labelled labelled_;
  std::vector<int64_t> documents_;                    // [R]
  at::Tensor hidden_;                                 // [R, D]
  at::Tensor tempered_;                               // hidden / temperature
  std::vector<double> log_probs_, entropy_, values_;  // [R]
  std::vector<uint8_t> correct_;
  std::vector<double> dlog_probs_, dentropy_, dvalues_;
  at::Tensor dhidden_;
};

bool reads_log_probs(const LossTerm& term) {
  return !std::holds_alternative<PpoValueTerm>(term) &&
         !std::holds_alternative<PairwiseRewardTerm>(term) &&
         !std::holds_alternative<FullKlTerm>(term);
}

std::vector<losses::Sums> Pass::run(const std::vector<LossTerm>& terms) {
  TORCH_CHECK_VALUE(!terms.empty(), "[backward] there is no loss term");
  TORCH_CHECK_VALUE(options_.normalizer > 0 && std::isfinite(options_.normalizer),
                    "[backward] the normalizer must be finite and above 0, got ",
                    options_.normalizer);
  TORCH_CHECK_VALUE(options_.temperature > 0 && std::isfinite(options_.temperature),
                    "[backward] the temperature must be finite and above 0, got ",
                    options_.temperature);
  const bool at_ends = std::holds_alternative<PairwiseRewardTerm>(terms[0]);
  for (const auto& term : terms) {
    TORCH_CHECK_VALUE(
        std::holds_alternative<PairwiseRewardTerm>(term) == at_ends,
        "[backward] pairwiseReward reads other tokens than the other terms: give it alone");
  }
  auto& decoder = *role_.base;
  tokens_ = tokens_of(role_, batch_);
  if (at_ends) {
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
  const size_t count = labelled_.rows.size();
  if (count == 0) {
    std::vector<losses::Sums> nothing;
    for (const auto& term : terms)
      nothing.push_back(std::visit([&](const auto& kind) { return apply(kind); }, term));
    return nothing;
  }
  rows_ = index_of(labelled_.rows, decoder.device());
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

  std::vector<losses::Sums> results;
  if (terms.size() == 1 && std::holds_alternative<CrossEntropyTerm>(terms[0])) {
    // The scale of each row is known before its logits: loss and gradient in one pass.
    const auto& term = std::get<CrossEntropyTerm>(terms[0]);
    std::vector<losses::RowScale> scales;
    for (const double weight : labelled_.weights)
      scales.push_back({weight * scale(term.coefficient)});
    auto loss = losses::linear_cross_entropy(tempered_, decoder.head(), labelled_.targets, scales,
                                             options_.gradient, cancel_);
    for (const double nll : loss.nll) log_probs_.push_back(-nll);
    entropy_ = std::move(loss.entropy);
    correct_ = std::move(loss.correct);
    if (options_.gradient)
      dhidden_ =
          options_.temperature == 1 ? loss.dhidden_RD : loss.dhidden_RD.div_(options_.temperature);
    results.push_back(apply(term));
  } else {
    if (std::any_of(terms.begin(), terms.end(), reads_log_probs)) {
      auto loss = losses::linear_cross_entropy(tempered_, decoder.head(), labelled_.targets, {},
                                               false, cancel_);
      for (const double nll : loss.nll) log_probs_.push_back(-nll);
      entropy_ = std::move(loss.entropy);
      correct_ = std::move(loss.correct);
      dlog_probs_.assign(count, 0);
      dentropy_.assign(count, 0);
    }
    if (at_ends || std::any_of(terms.begin(), terms.end(), [](const LossTerm& term) {
          return std::holds_alternative<PpoValueTerm>(term);
        })) {
      values_ = read_score(hidden_, score_of(role_));
      dvalues_.assign(count, 0);
    }
    for (const auto& term : terms)
      results.push_back(std::visit([&](const auto& kind) { return apply(kind); }, term));
    if (options_.gradient) finish_gradients();
  }
  if (options_.gradient) {
    if (dhidden_.defined()) decoder.backward(tokens_, rows_, pass, dhidden_, trace, cancel_);
    role_.gradients_dirty = spoilt;
  }
  return results;
}

void Pass::finish_gradients() {
  auto& decoder = *role_.base;
  if (!dlog_probs_.empty()) {
    std::vector<losses::RowScale> scales;
    for (size_t r = 0; r < dlog_probs_.size(); ++r)
      scales.push_back({-dlog_probs_[r], dentropy_[r]});
    auto gradient = losses::linear_cross_entropy(tempered_, decoder.head(), labelled_.targets,
                                                 scales, true, cancel_);
    add_hidden_gradient(gradient.dhidden_RD.div_(options_.temperature));
  }
  if (!dvalues_.empty()) {
    auto& score = score_of(role_);
    const auto dvalues_R1 = at::tensor(dvalues_, at::kDouble)
                                .to(score.value.device(), score.value.scalar_type())
                                .unsqueeze(1);
    if (score.trainable)
      nn::accumulate_product(score.gradient(), dvalues_R1, hidden_.to(score.value.scalar_type()));
    add_hidden_gradient(at::mm(dvalues_R1, score.value).to(hidden_.scalar_type()));
  }
}

std::vector<double> Pass::of_labels(const std::vector<double>& of_tokens, const char* name) const {
  TORCH_CHECK_VALUE(of_tokens.empty() || of_tokens.size() == batch_.input_ids.size(), "[backward] ",
                    name, " has ", of_tokens.size(), " values for ", batch_.input_ids.size(),
                    " tokens");
  std::vector<double> result;
  if (of_tokens.empty()) return result;
  for (const int64_t row : labelled_.rows)
    result.push_back(of_tokens[static_cast<size_t>(row) + 1]);
  return result;
}

std::vector<double> Pass::document_sums(std::vector<double>* lengths) const {
  const size_t documents = batch_.offsets.size() - 1;
  std::vector<double> sums(documents, 0);
  if (lengths != nullptr) lengths->assign(documents, 0);
  for (size_t r = 0; r < documents_.size(); ++r) {
    sums[static_cast<size_t>(documents_[r])] += log_probs_[r];
    if (lengths != nullptr) (*lengths)[static_cast<size_t>(documents_[r])] += 1;
  }
  return sums;
}

void Pass::check_pairs(const std::vector<int32_t>& pairs, size_t weights) const {
  TORCH_CHECK_VALUE(pairs.size() % 2 == 0, "[backward] pairs has an odd number of entries");
  TORCH_CHECK_VALUE(weights == 0 || 2 * weights == pairs.size(), "[backward] ", weights,
                    " weights for ", pairs.size() / 2, " pairs");
  const auto documents = static_cast<int32_t>(batch_.offsets.size() - 1);
  for (const int32_t document : pairs) {
    TORCH_CHECK_VALUE(document >= 0 && document < documents, "[backward] pairs names document ",
                      document, " of ", documents);
  }
}

losses::Sums Pass::apply(const CrossEntropyTerm& term) {
  losses::Sums sums;
  double correct = 0, entropy = 0;
  for (size_t r = 0; r < labelled_.rows.size(); ++r) {
    sums.loss -= labelled_.weights[r] * log_probs_[r];
    sums.count += labelled_.weights[r];
    correct += correct_[r];
    entropy += entropy_[r];
    if (!dlog_probs_.empty()) dlog_probs_[r] -= scale(term.coefficient) * labelled_.weights[r];
  }
  sums.more = {{"correct", correct},
               {"entropy", entropy},
               {"labels", static_cast<double>(labelled_.rows.size())}};
  return sums;
}

losses::Sums Pass::apply(const WeightedLogProbTerm& term) {
  const auto weights = of_labels(term.weights, "weights");
  TORCH_CHECK_VALUE(weights.size() == labelled_.rows.size(), "[weightedLogProb] needs weights");
  losses::Sums sums;
  for (size_t r = 0; r < weights.size(); ++r) {
    sums.loss -= weights[r] * log_probs_[r];
    sums.count += 1;
    dlog_probs_[r] -= scale(term.coefficient) * weights[r];
  }
  return sums;
}

losses::Sums Pass::apply(const PpoPolicyTerm& term) {
  const auto old = of_labels(term.old_log_probs, "oldLogProbs");
  const auto advantages = of_labels(term.advantages, "advantages");
  const auto importance = of_labels(term.importance, "importance");
  TORCH_CHECK_VALUE(old.size() == labelled_.rows.size() && advantages.size() == old.size(),
                    "[ppoPolicy] needs oldLogProbs and advantages");
  auto sums =
      losses::ppo_policy({log_probs_, old, advantages, labelled_.weights, importance, documents_},
                         term.options, scale(term.coefficient), log_prob_gradient());
  double entropy = 0, all_entropy = 0;
  for (size_t r = 0; r < old.size(); ++r) {
    entropy += labelled_.weights[r] * entropy_[r];
    all_entropy += entropy_[r];
    dentropy_[r] -= scale(term.coefficient) * term.entropy_coefficient * labelled_.weights[r];
  }
  sums.loss -= term.entropy_coefficient * entropy;
  sums.more.emplace_back("entropy", all_entropy);
  sums.more.emplace_back("labels", static_cast<double>(old.size()));
  return sums;
}

losses::Sums Pass::apply(const PpoValueTerm& term) {
  const auto old = of_labels(term.old_values, "oldValues");
  const auto returns = of_labels(term.returns, "returns");
  TORCH_CHECK_VALUE(old.size() == labelled_.rows.size() && returns.size() == old.size(),
                    "[ppoValue] needs oldValues and returns");
  return losses::ppo_value(values_, old, returns, labelled_.weights, term.clip,
                           scale(term.coefficient), value_gradient());
}

losses::Sums Pass::apply(const KlTerm& term) {
  const auto reference = of_labels(term.reference_log_probs, "referenceLogProbs");
  const auto old = of_labels(term.old_log_probs, "oldLogProbs");
  TORCH_CHECK_VALUE(reference.size() == labelled_.rows.size(), "[kl] needs referenceLogProbs");
  return losses::kl_penalty(log_probs_, reference, old, labelled_.weights, term.estimator,
                            scale(term.coefficient), log_prob_gradient());
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

losses::Sums Pass::apply(const DpoTerm& term) {
  losses::check(term.options);
  check_pairs(term.pairs, term.weights.size());
  const size_t documents = batch_.offsets.size() - 1;
  const bool referenced = losses::dpo_needs_reference(term.options.kind);
  TORCH_CHECK_VALUE(!referenced || term.reference_sums.size() == documents,
                    "[dpo] needs referenceSums of ", documents, " documents, got ",
                    term.reference_sums.size());
  std::vector<double> lengths, gradient(documents, 0);
  const auto sums_D = document_sums(&lengths);
  losses::Sums sums;
  double correct = 0, chosen_reward = 0, rejected_reward = 0, chosen = 0, rejected = 0;
  for (size_t p = 0; 2 * p < term.pairs.size(); ++p) {
    const auto better = static_cast<size_t>(term.pairs[2 * p]);
    const auto worse = static_cast<size_t>(term.pairs[2 * p + 1]);
    TORCH_CHECK_VALUE(lengths[better] > 0 && lengths[worse] > 0, "[dpo] an answer of pair ", p,
                      " has no label");
    const double weight = term.weights.empty() ? 1 : term.weights[p];
    losses::PairInput pair{sums_D[better], sums_D[worse]};
    if (referenced) {
      pair.chosen_reference = term.reference_sums[better];
      pair.rejected_reference = term.reference_sums[worse];
    }
    pair.chosen_length = lengths[better];
    pair.rejected_length = lengths[worse];
    const auto loss = losses::dpo_loss(pair, term.options);
    sums.loss += weight * loss.loss;
    sums.count += weight;
    gradient[better] += scale(term.coefficient) * weight * loss.chosen;
    gradient[worse] += scale(term.coefficient) * weight * loss.rejected;
    // Without a reference the implicit reward is the mean log-probability, as in SimPO.
    const double of_better =
        referenced ? pair.chosen - pair.chosen_reference : pair.chosen / pair.chosen_length;
    const double of_worse =
        referenced ? pair.rejected - pair.rejected_reference : pair.rejected / pair.rejected_length;
    correct += weight * (of_better > of_worse);
    chosen_reward += weight * term.options.beta * of_better;
    rejected_reward += weight * term.options.beta * of_worse;
    chosen += weight * pair.chosen;
    rejected += weight * pair.rejected;
  }
  for (size_t r = 0; r < dlog_probs_.size(); ++r)
    dlog_probs_[r] += gradient[static_cast<size_t>(documents_[r])];
  sums.more = {{"correct", correct},
               {"chosenReward", chosen_reward},
               {"rejectedReward", rejected_reward},
               {"chosenLogProb", chosen},
               {"rejectedLogProb", rejected}};
  return sums;
}

losses::Sums Pass::apply(const KtoTerm& term) {
  const size_t documents = batch_.offsets.size() - 1;
  TORCH_CHECK_VALUE(term.desirable.size() == documents && term.reference_sums.size() == documents,
                    "[kto] needs desirable and referenceSums of ", documents, " documents");
  std::vector<double> gradient(documents, 0);
  const auto sums_D = document_sums(nullptr);
  losses::Sums sums;
  double desirable = 0, desirable_reward = 0, undesirable_reward = 0;
  for (size_t d = 0; d < documents; ++d) {
    const bool good = term.desirable[d] != 0;
    const auto loss = losses::kto_loss(sums_D[d], term.reference_sums[d], good, term.options);
    const double reward = term.options.beta * (sums_D[d] - term.reference_sums[d]);
    sums.loss += loss.loss;
    sums.count += 1;
    gradient[d] = scale(term.coefficient) * loss.slope;
    desirable += good;
    (good ? desirable_reward : undesirable_reward) += reward;
  }
  for (size_t r = 0; r < dlog_probs_.size(); ++r)
    dlog_probs_[r] += gradient[static_cast<size_t>(documents_[r])];
  sums.more = {{"desirable", desirable},
               {"desirableReward", desirable_reward},
               {"undesirableReward", undesirable_reward}};
  return sums;
}

losses::Sums Pass::apply(const PairwiseRewardTerm& term) {
  check_pairs(term.pairs, term.weights.size());
  TORCH_CHECK_VALUE(term.margins.empty() || 2 * term.margins.size() == term.pairs.size(),
                    "[pairwiseReward] ", term.margins.size(), " margins for ",
                    term.pairs.size() / 2, " pairs");
  losses::Sums sums;
  double correct = 0, margin = 0;
  for (size_t p = 0; 2 * p < term.pairs.size(); ++p) {
    const auto better = static_cast<size_t>(term.pairs[2 * p]);
    const auto worse = static_cast<size_t>(term.pairs[2 * p + 1]);
    const double weight = term.weights.empty() ? 1 : term.weights[p];
    const auto loss = losses::pairwise_reward_loss(
        values_[better], values_[worse], term.margins.empty() ? 0 : term.margins[p], term.center);
    sums.loss += weight * loss.loss;
    sums.count += weight;
    dvalues_[better] += scale(term.coefficient) * weight * loss.chosen;
    dvalues_[worse] += scale(term.coefficient) * weight * loss.rejected;
    correct += weight * (values_[better] > values_[worse]);
    margin += weight * (values_[better] - values_[worse]);
  }
  double sum = 0, lowest = INFINITY, highest = -INFINITY;
  for (const double value : values_) {
    sum += value;
    lowest = std::min(lowest, value);
    highest = std::max(highest, value);
  }
  sums.more = {{"correct", correct},  {"margin", margin},
               {"rewards", sum},      {"documents", static_cast<double>(values_.size())},
               {"minReward", lowest}, {"maxReward", highest}};
  return sums;
}

/** Hidden states where labels are predicted, and the labels. */
at::Tensor label_states(models::Role& role, const Batch& batch, Labelled* labelled,
                        const core::Cancel& cancel) {
  *labelled = labelled_of(batch, -100, role.base->spec().vocab_size);
  if (labelled->rows.empty()) return {};
  return role.base->forward(tokens_of(role, batch), index_of(labelled->rows, role.base->device()),
                            role.pass(), nullptr, nullptr, cancel);
}

}  // namespace

std::vector<losses::Sums> run_terms(models::Role& role, const Batch& batch,
                                    const std::vector<LossTerm>& terms,
                                    const BackwardOptions& options, const core::Cancel& cancel) {
  return Pass(role, batch, options, cancel).run(terms);
}

at::Tensor logits(models::Role& role, const Batch& batch, const core::Cancel& cancel) {
  const auto hidden =
      role.base->forward(tokens_of(role, batch), {}, role.pass(), nullptr, nullptr, cancel);
  return at::mm(hidden, role.base->head().value.t()).to(at::kCPU, at::kFloat).contiguous();
}

LabelLogProbs log_probs(models::Role& role, const Batch& batch, double temperature,
                        const core::Cancel& cancel) {
  TORCH_CHECK_VALUE(temperature > 0 && std::isfinite(temperature),
                    "[logProbs] the temperature must be finite and above 0, got ", temperature);
  Labelled labelled;
  auto hidden = label_states(role, batch, &labelled, cancel);
  LabelLogProbs result{std::vector<double>(batch.input_ids.size(), 0.0),
                       std::vector<double>(batch.input_ids.size(), 0.0)};
  if (!hidden.defined()) return result;
  if (temperature != 1) hidden = hidden / temperature;
  const auto loss =
      losses::linear_cross_entropy(hidden, role.base->head(), labelled.targets, {}, false, cancel);
  for (size_t r = 0; r < labelled.rows.size(); ++r) {
    const auto at = static_cast<size_t>(labelled.rows[r]) + 1;
    result.log_probs[at] = -loss.nll[r];
    result.entropy[at] = loss.entropy[r];
  }
  return result;
}

std::vector<double> values(models::Role& role, const Batch& batch, const core::Cancel& cancel) {
  const auto& score = score_of(role);
  Labelled labelled;
  const auto hidden = label_states(role, batch, &labelled, cancel);
  std::vector<double> result(batch.input_ids.size(), 0.0);
  if (!hidden.defined()) return result;
  const auto values_R = read_score(hidden, score);
  for (size_t r = 0; r < values_R.size(); ++r)
    result[static_cast<size_t>(labelled.rows[r]) + 1] = values_R[r];
  return result;
}

std::vector<double> scores(models::Role& role, const Batch& batch, const core::Cancel& cancel) {
  const auto& score = score_of(role);
  std::vector<int64_t> ends;
  for (size_t d = 0; d + 1 < batch.offsets.size(); ++d) ends.push_back(batch.offsets[d + 1] - 1);
  const auto hidden =
      role.base->forward(tokens_of(role, batch), index_of(ends, role.base->device()), role.pass(),
                         nullptr, nullptr, cancel);
  return read_score(hidden, score);
}

}  // namespace posttrain::train
