#include "train/step.h"

#include "losses/linear_cross_entropy.h"

namespace posttrain::train {
namespace {

at::Tensor index_of(const std::vector<int64_t>& rows, at::Device device) {
  return at::tensor(rows, at::kLong).to(device);
}

}  // namespace

std::vector<TermResult> run_terms(models::Role& role, const Batch& batch,
                                  const std::vector<losses::LossTerm>& terms,
                                  const BackwardOptions& options, const core::Cancel& cancel) {
  auto& decoder = *role.base;
  TORCH_CHECK_VALUE(terms.size() == 1, "[backward] one loss term is needed, got ", terms.size());
  TORCH_CHECK_VALUE(options.normalizer > 0 && std::isfinite(options.normalizer),
                    "[backward] the normalizer must be finite and above 0, got ",
                    options.normalizer);
  const auto& term = std::get<losses::CrossEntropyTerm>(terms[0]);
  const auto tokens = models::tokens_of(batch.input_ids, batch.offsets, decoder.spec().vocab_size,
                                        decoder.device());
  const auto labelled = labelled_of(batch, term.ignore_index, decoder.spec().vocab_size);
  TermResult result;
  result.labels = static_cast<double>(labelled.rows.size());
  if (labelled.rows.empty()) return {result};

  const auto rows = index_of(labelled.rows, decoder.device());
  models::DecoderTrace trace;
  trace.checkpointing = options.checkpointing;
  // A backward that works adds to gradients that an earlier one may have spoilt: only zero_grad()
  // cleans them.
  const bool spoilt = decoder.gradients_dirty;
  if (options.gradient) decoder.gradients_dirty = true;
  const auto hidden =
      decoder.forward(tokens, rows, options.gradient ? &trace : nullptr, nullptr, cancel);
  std::vector<double> scales(labelled.weights);
  for (auto& scale : scales) scale *= term.coefficient / options.normalizer;
  const auto loss = losses::linear_cross_entropy(hidden, decoder.head(), labelled.targets, scales,
                                                 options.gradient, cancel);
  if (options.gradient) {
    decoder.backward(tokens, rows, loss.dhidden_RD, trace, cancel);
    decoder.gradients_dirty = spoilt;
  }
  for (size_t r = 0; r < labelled.rows.size(); ++r) {
    result.loss += labelled.weights[r] * loss.nll[r];
    result.count += labelled.weights[r];
    result.correct += loss.correct[r];
    result.entropy += loss.entropy[r];
  }
  return {result};
}

at::Tensor logits(models::Role& role, const Batch& batch, const core::Cancel& cancel) {
  auto& decoder = *role.base;
  const auto hidden =
      decoder.forward(models::tokens_of(batch.input_ids, batch.offsets, decoder.spec().vocab_size,
                                        decoder.device()),
                      {}, nullptr, nullptr, cancel);
  return at::mm(hidden, decoder.head().value.t()).to(at::kCPU, at::kFloat).contiguous();
}

std::vector<float> log_probs(models::Role& role, const Batch& batch, const core::Cancel& cancel) {
  auto& decoder = *role.base;
  const auto tokens = models::tokens_of(batch.input_ids, batch.offsets, decoder.spec().vocab_size,
                                        decoder.device());
  const auto labelled = labelled_of(batch, -100, decoder.spec().vocab_size);
  std::vector<float> result(batch.input_ids.size(), 0.0f);
  if (labelled.rows.empty()) return result;
  const auto hidden =
      decoder.forward(tokens, index_of(labelled.rows, decoder.device()), nullptr, nullptr, cancel);
  const auto loss = losses::linear_cross_entropy(hidden, decoder.head(), labelled.targets,
                                                 labelled.weights, false, cancel);
  for (size_t r = 0; r < labelled.rows.size(); ++r)
    result[labelled.rows[r] + 1] = static_cast<float>(-loss.nll[r]);
  return result;
}

}  // namespace posttrain::train
