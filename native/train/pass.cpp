#include "train/pass.h"

#include <algorithm>
#include <cmath>

#include "core/transfer.h"
#include "train/scalar_head.h"
#include "train/terms/hidden_states.h"

namespace posttrain::train {

Pass::Pass(models::Role& role, const Batch& batch, std::vector<LossTerm> terms,
           const BackwardOptions& options, const core::Cancel& cancel)
    : role_(role), batch_(batch), terms_(std::move(terms)), options_(options), cancel_(cancel) {
  for (auto& term : terms_) needs_.push_back(needs_of(term));
}

void Pass::check() const {
  TORCH_CHECK_VALUE(!terms_.empty(), "[backward] no loss terms");
  TORCH_CHECK_VALUE(options_.normalizer > 0 && std::isfinite(options_.normalizer),
                    "[backward] the normalizer must be finite and above 0, got ",
                    options_.normalizer);
  TORCH_CHECK_VALUE(options_.temperature > 0 && std::isfinite(options_.temperature),
                    "[backward] the temperature must be finite and above 0, got ",
                    options_.temperature);
  for (const auto& needs : needs_) {
    TORCH_CHECK_VALUE(
        (needs.reads == Reads::scores) == (needs_[0].reads == Reads::scores),
        "[backward] pairwiseReward reads other tokens: it cannot be combined with other terms");
  }
}

int64_t Pass::ignore_index() const {
  std::optional<int64_t> result;
  for (const auto& needs : needs_) {
    if (!needs.ignore_index) continue;
    TORCH_CHECK_VALUE(!result || *result == *needs.ignore_index,
                      "[backward] the terms disagree on ignoreIndex: ", *result, " and ",
                      *needs.ignore_index);
    result = needs.ignore_index;
  }
  return result.value_or(kIgnoreIndex);
}

void Pass::read_rows() {
  auto& decoder = *role_.base;
  const int64_t vocab_size = decoder.spec().vocab_size;
  tokens_ = models::tokens_of(batch_.input_ids, batch_.offsets, vocab_size, decoder.device());
  if (needs_[0].reads == Reads::scores)
    labels_.rows = last_tokens_of(batch_);
  else
    labels_ = labels_of(batch_, ignore_index(), vocab_size);
  for (const auto& needs : needs_) {
    for (const auto& vector : needs.of_tokens) read_of_tokens(vector);
  }
}

void Pass::read_of_tokens(const OfTokens& vector) const {
  const auto of_tokens = std::move(*vector.values);
  vector.values->clear();
  TORCH_CHECK_VALUE(of_tokens.empty() || of_tokens.size() == batch_.input_ids.size(), "[backward] ",
                    vector.name, " has ", of_tokens.size(), " values for ", batch_.input_ids.size(),
                    " tokens");
  TORCH_CHECK_VALUE(!vector.required || !of_tokens.empty() || labels_.targets.empty(),
                    "[backward] ", vector.name, " is missing");
  if (of_tokens.empty()) return;
  for (const int64_t token : labels_.rows.tokens)
    vector.values->push_back(of_tokens[static_cast<size_t>(token) + 1]);
}

bool Pass::any(bool (*reads)(Reads)) const {
  return std::any_of(needs_.begin(), needs_.end(),
                     [&](const Needs& needs) { return reads(needs.reads); });
}

bool Pass::only_linear() const {
  return std::all_of(needs_.begin(), needs_.end(),
                     [](const Needs& needs) { return needs.reads == Reads::linear_label; });
}

std::vector<losses::Sums> Pass::sums(const HiddenStates* hidden) {
  const Outputs outputs{.log_probs = log_probs_,
                        .entropy = entropy_,
                        .correct = correct_,
                        .values = values_,
                        .weights = labels_.weights,
                        .documents = labels_.rows.documents,
                        .document_count = batch_.offsets.size() - 1,
                        .hidden = hidden};
  const Gradient gradient{.normalizer = options_.normalizer,
                          .log_probs = dlog_probs_,
                          .entropy = dentropy_,
                          .values = dvalues_,
                          .hidden = options_.gradient ? &dhidden_RD_ : nullptr};
  std::vector<losses::Sums> results;
  for (const auto& term : terms_) results.push_back(loss_of(term, outputs, gradient));
  return results;
}

std::vector<losses::Sums> Pass::run() {
  check();
  auto& decoder = *role_.base;
  read_rows();
  const size_t count = labels_.rows.tokens.size();
  if (count == 0) return sums(nullptr);
  const bool scalar = any(reads_scalar_head);
  if (scalar) scalar_head_of(role_);
  const auto rows_R = core::on_device(at::tensor(labels_.rows.tokens, at::kLong), decoder.device());
  models::DecoderTrace trace;
  trace.checkpointing = options_.checkpointing;
  // A successful backward adds to gradients that a failed one may have left incomplete: only
  // zero_grad() resets them.
  const bool spoilt = role_.gradients_dirty;
  if (options_.gradient) role_.gradients_dirty = true;
  const auto adapter = role_.active_adapter(options_.dropout_seed);
  hidden_RD_ = decoder.forward(tokens_, rows_R, adapter, options_.gradient ? &trace : nullptr,
                               nullptr, cancel_);

  losses::LinearCrossEntropy losses;
  if (any(reads_log_probs)) {
    // Where a label's gradient depends on that label alone, losses and gradient are one pass.
    const bool at_once = !any([](Reads reads) { return reads == Reads::all_labels; });
    if (options_.gradient && at_once) {
      const auto of = [&](int64_t r, const device::RowLoss& loss) {
        return scale_of(static_cast<size_t>(r), loss);
      };
      const bool known = !any([](Reads reads) { return reads == Reads::each_label; });
      losses = label_losses({of, known});
    } else {
      losses = label_losses({});
      if (options_.gradient) {
        dlog_probs_.assign(count, 0);
        dentropy_.assign(count, 0);
      }
    }
  }
  if (scalar) {
    values_ = read_scalar_head(hidden_RD_, scalar_head_of(role_));
    if (options_.gradient) dvalues_.assign(count, 0);
  }
  const HiddenStates states{tokens_, rows_R, hidden_RD_,
                            decoder.head(adapter).at_temperature(options_.temperature), cancel_};
  // No gradient waits for losses that it does not depend on.
  const bool later = options_.gradient && only_linear();
  std::vector<losses::Sums> results;
  if (!later) {
    read(losses);
    results = sums(&states);
  }
  if (!options_.gradient) return results;
  if (!dlog_probs_.empty()) {
    const auto of = [&](int64_t r, const device::RowLoss&) {
      return device::RowScale{-dlog_probs_[r], dentropy_[r]};
    };
    label_losses({of, true});
  }
  if (!dvalues_.empty())
    add_to(dhidden_RD_, scalar_head_backward(dvalues_, hidden_RD_, scalar_head_of(role_)));
  if (dhidden_RD_.defined())
    decoder.backward(tokens_, rows_R, adapter, dhidden_RD_, trace, cancel_);
  if (later) {
    read(losses);
    results = sums(&states);
  }
  role_.gradients_dirty = spoilt;
  return results;
}

losses::LinearCrossEntropy Pass::label_losses(const losses::RowScales& scales) {
  auto losses =
      losses::linear_cross_entropy(hidden_RD_,
                                   role_.base->head(role_.active_adapter(options_.dropout_seed))
                                       .at_temperature(options_.temperature),
                                   labels_.targets, scales, cancel_);
  if (losses.dhidden_RD.defined()) add_to(dhidden_RD_, losses.dhidden_RD);
  return losses;
}

void Pass::read(losses::LinearCrossEntropy& losses) {
  losses.read();
  for (const double nll : losses.nll) log_probs_.push_back(-nll);
  entropy_ = std::move(losses.entropy);
  correct_ = std::move(losses.correct);
}

device::RowScale Pass::scale_of(size_t row, const device::RowLoss& loss) const {
  const double log_prob = -loss.nll;
  const uint8_t correct = loss.correct;
  const Outputs label{.first = row,
                      .log_probs = std::span(&log_prob, 1),
                      .entropy = std::span(&loss.entropy, 1),
                      .correct = std::span(&correct, 1),
                      .weights = std::span(labels_.weights).subspan(row, 1),
                      .documents = std::span(labels_.rows.documents).subspan(row, 1),
                      .document_count = batch_.offsets.size() - 1};
  double by_log_prob = 0, by_entropy = 0;
  const Gradient gradient{.normalizer = options_.normalizer,
                          .log_probs = std::span(&by_log_prob, 1),
                          .entropy = std::span(&by_entropy, 1)};
  for (size_t i = 0; i < terms_.size(); ++i) {
    if (reads_log_probs(needs_[i].reads)) loss_of(terms_[i], label, gradient);
  }
  return {-by_log_prob, by_entropy};
}

}  // namespace posttrain::train
