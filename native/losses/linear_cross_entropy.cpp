#include "losses/linear_cross_entropy.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/transfer.h"

namespace posttrain::losses {
namespace {

/** The logits of a pass, a chunk after another in one buffer. */
class Chunks {
 public:
  Chunks(const at::Tensor& hidden_RD, const nn::Head& head, bool gradient)
      : columns_(head.weight->value.size(0)),
        rows_(hidden_RD.size(0)),
        step_(std::min(rows_, head.kernels->chunk_rows(columns_))),
        gradient_(gradient),
        pass_(head, hidden_RD) {
    const auto wide = hidden_RD.options().dtype(device::wide_type(hidden_RD));
    const int64_t stride = head.kernels->logit_columns(columns_);
    logits_ = at::empty({step_, stride}, wide);
    // Zeros behind the rows: torch's bfloat16 product on the CPU reads one number beyond an odd
    // row.
    dlogits_ = !gradient || wide.dtype() == hidden_RD.dtype()
                   ? logits_
                   : at::zeros({step_, stride}, hidden_RD.options());
  }

  /** Calls use(logits, dlogits, from, count), which writes the gradient of the logits in dlogits,
   * for every chunk. */
  template <class Use>
  void each(at::Tensor& dhidden_RD, const core::Cancel& cancel, Use use) {
    for (int64_t from = 0; from < rows_; from += step_) {
      cancel.check();
      const int64_t count = std::min(step_, rows_ - from);
      auto logits = part(logits_, count), dlogits = part(dlogits_, count);
      at::Tensor tanh;
      pass_.logits(logits, from, count, gradient_ ? &tanh : nullptr);
      use(logits, dlogits, from, count);
      if (gradient_) pass_.backward(dlogits, from, count, tanh, dhidden_RD);
    }
    if (gradient_) pass_.finish(dhidden_RD);
  }

 private:
  at::Tensor part(const at::Tensor& buffer, int64_t count) const {
    return buffer.narrow(0, 0, count).narrow(1, 0, columns_);
  }

  int64_t columns_, rows_, step_;
  bool gradient_;
  nn::HeadPass pass_;
  at::Tensor logits_, dlogits_;
};

void compute_on_host(LinearCrossEntropy& result, Chunks& chunks, const nn::Head& head,
                     const std::vector<int64_t>& targets, const device::ScaleOf& scale_of,
                     const core::Cancel& cancel) {
  const size_t rows = targets.size();
  result.nll.resize(rows);
  result.entropy.resize(rows);
  result.correct.resize(rows);
  chunks.each(result.dhidden_RD, cancel,
              [&](at::Tensor& logits, at::Tensor& dlogits, int64_t from, int64_t) {
                head.kernels->label_rows(logits, targets.data() + from, from, scale_of,
                                         result.nll.data() + from, result.entropy.data() + from,
                                         result.correct.data() + from);
                if (scale_of && !dlogits.is_alias_of(logits)) dlogits.copy_(logits);
              });
}

device::RowLoss row_of(const LinearCrossEntropy& losses, int64_t r) {
  const auto i = static_cast<size_t>(r);
  return {losses.nll[i], losses.entropy[i], losses.correct[i] != 0};
}

/** [2, R]; the losses are read where the scales depend on them. */
at::Tensor scales_on_device(LinearCrossEntropy& losses, const RowScales& scales, int64_t rows,
                            at::Device device) {
  if (!scales.known) losses.read();
  auto scales_2R = at::empty({2, rows}, at::kDouble);
  auto* values = scales_2R.mutable_data_ptr<double>();
  for (int64_t r = 0; r < rows; ++r) {
    const auto scale = scales.of(r, scales.known ? device::RowLoss{} : row_of(losses, r));
    values[r] = scale.nll;
    values[rows + r] = scale.entropy;
  }
  return core::on_device(scales_2R, device);
}

void compute_on_device(LinearCrossEntropy& result, Chunks& chunks, const nn::Head& head,
                       const std::vector<int64_t>& targets, const RowScales& scales,
                       at::Device device, const core::Cancel& cancel) {
  const auto rows = static_cast<int64_t>(targets.size());
  const auto targets_R = core::on_device(at::tensor(targets, at::kLong), device);
  result.losses_3R = at::empty({3, rows}, targets_R.options().dtype(at::kDouble));
  at::Tensor scales_2R, none;
  if (scales.known) scales_2R = scales_on_device(result, scales, rows, device);
  chunks.each(result.dhidden_RD, cancel,
              [&](at::Tensor& logits, at::Tensor& dlogits, int64_t from, int64_t count) {
                const auto targets_C = targets_R.narrow(0, from, count);
                auto losses_3C = result.losses_3R.narrow(1, from, count);
                if (!scales_2R.defined()) {
                  head.kernels->label_losses(logits, targets_C, none, losses_3C, none);
                  if (!scales.of) return;
                  scales_2R = scales_on_device(result, scales, rows, device);
                }
                head.kernels->label_losses(logits, targets_C, scales_2R.narrow(1, from, count),
                                           losses_3C, dlogits);
              });
}

}  // namespace

void LinearCrossEntropy::read() {
  if (!losses_3R.defined()) return;
  const auto losses = core::on_host(losses_3R, at::kDouble);
  losses_3R = at::Tensor();
  const auto rows = losses.size(1);
  const auto* values = losses.const_data_ptr<double>();
  nll.assign(values, values + rows);
  entropy.assign(values + rows, values + 2 * rows);
  correct.assign(values + 2 * rows, values + 3 * rows);
}

LinearCrossEntropy linear_cross_entropy(const at::Tensor& hidden_RD, const nn::Head& head,
                                        const std::vector<int64_t>& targets,
                                        const RowScales& scales, const core::Cancel& cancel) {
  LinearCrossEntropy result;
  const bool gradient = scales.of != nullptr;
  if (gradient) result.dhidden_RD = at::empty_like(hidden_RD);
  if (targets.empty()) return result;
  if (head.kernels->label_rows != nullptr) {
    Chunks chunks(hidden_RD, head, gradient);
    compute_on_host(result, chunks, head, targets, scales.of, cancel);
    return result;
  }
  const bool one =
      static_cast<int64_t>(targets.size()) <= head.kernels->chunk_rows(head.weight->value.size(0));
  if (gradient && !scales.known && !one) {
    auto losses = linear_cross_entropy(hidden_RD, head, targets, {}, cancel);
    losses.read();
    const auto of_losses = [&](int64_t r, const device::RowLoss&) {
      return scales.of(r, row_of(losses, r));
    };
    losses.dhidden_RD =
        linear_cross_entropy(hidden_RD, head, targets, {of_losses, true}, cancel).dhidden_RD;
    return losses;
  }
  Chunks chunks(hidden_RD, head, gradient);
  compute_on_device(result, chunks, head, targets, scales, hidden_RD.device(), cancel);
  return result;
}

}  // namespace posttrain::losses
