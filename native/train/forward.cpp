#include "train/forward.h"

#include <cmath>

#include "core/transfer.h"
#include "losses/linear_cross_entropy.h"
#include "train/scalar_head.h"

namespace posttrain::train {
namespace {

/** Hidden states at `rows`, [R, D]; without rows at all tokens, [T, D]. */
at::Tensor hidden_of(models::Role& role, const Batch& batch, const std::vector<int64_t>* rows,
                     const core::Cancel& cancel) {
  auto& base = *role.base;
  const auto tokens =
      models::tokens_of(batch.input_ids, batch.offsets, base.spec().vocab_size, base.device());
  const auto rows_R =
      rows == nullptr ? at::Tensor() : core::on_device(at::tensor(*rows, at::kLong), base.device());
  return base.forward(tokens, rows_R, role.active_adapter(), nullptr, nullptr, cancel);
}

/** Values [R] at the labels they belong to, [T], 0 elsewhere. */
std::vector<double> at_labels(const std::vector<double>& values, const Labels& labels,
                              const Batch& batch) {
  std::vector<double> result(batch.input_ids.size(), 0.0);
  for (size_t r = 0; r < values.size(); ++r)
    result[static_cast<size_t>(labels.rows.tokens[r]) + 1] = values[r];
  return result;
}

}  // namespace

at::Tensor logits(models::Role& role, const Batch& batch, const core::Cancel& cancel) {
  const auto hidden = hidden_of(role, batch, nullptr, cancel);
  return core::on_host(role.base->head(role.active_adapter()).logits(hidden), at::kFloat);
}

LabelLogProbs log_probs(models::Role& role, const Batch& batch, double temperature,
                        const core::Cancel& cancel) {
  TORCH_CHECK_VALUE(temperature > 0 && std::isfinite(temperature),
                    "[logProbs] the temperature must be finite and above 0, got ", temperature);
  const auto labels = labels_of(batch, kIgnoreIndex, role.base->spec().vocab_size);
  losses::LinearCrossEntropy loss;
  if (!labels.targets.empty()) {
    const auto hidden = hidden_of(role, batch, &labels.rows.tokens, cancel);
    loss = losses::linear_cross_entropy(
        hidden, role.base->head(role.active_adapter()).at_temperature(temperature), labels.targets,
        {}, cancel);
    loss.read();
  }
  for (double& nll : loss.nll) nll = -nll;
  return {at_labels(loss.nll, labels, batch), at_labels(loss.entropy, labels, batch)};
}

std::vector<double> values(models::Role& role, const Batch& batch, const core::Cancel& cancel) {
  const auto& head = scalar_head_of(role);
  const auto labels = labels_of(batch, kIgnoreIndex, role.base->spec().vocab_size);
  std::vector<double> values_R;
  if (!labels.targets.empty())
    values_R = read_scalar_head(hidden_of(role, batch, &labels.rows.tokens, cancel), head);
  return at_labels(values_R, labels, batch);
}

std::vector<double> scores(models::Role& role, const Batch& batch, const core::Cancel& cancel) {
  const auto& head = scalar_head_of(role);
  const auto ends = last_tokens_of(batch);
  return read_scalar_head(hidden_of(role, batch, &ends.tokens, cancel), head);
}

}  // namespace posttrain::train
