#include "train/step.h"

#include <cmath>

#include "core/matmul.h"
#include "losses/linear_cross_entropy.h"
#include "train/pass.h"

namespace posttrain::train {
namespace {

models::Tokens tokens_of(models::Role& role, const Batch& batch) {
  const auto& base = *role.base;
  return models::tokens_of(batch.input_ids, batch.offsets, base.spec().vocab_size, base.device());
}

at::Tensor index_of(const std::vector<int64_t>& rows, at::Device device) {
  return at::tensor(rows, at::kLong).to(device);
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
  return core::product(hidden, role.base->head().value.t()).to(at::kCPU, at::kFloat).contiguous();
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
      losses::linear_cross_entropy(hidden, role.base->head(), labelled.targets, {}, cancel);
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
