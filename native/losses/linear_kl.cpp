#include "losses/linear_kl.h"

#include <algorithm>

#include "core/transfer.h"

namespace posttrain::losses {

LinearKl linear_kl(const at::Tensor& hidden_RD, const nn::Head& head,
                   const at::Tensor& reference_RD, const nn::Head& reference_head,
                   KlDirection direction, const std::vector<double>& scales, bool gradient,
                   const core::Cancel& cancel) {
  const bool forward = direction == KlDirection::forward;
  const int64_t rows = hidden_RD.size(0), columns = head.weight->value.size(0),
                reference_columns = reference_head.weight->value.size(0);
  TORCH_CHECK_VALUE(reference_columns == columns, "[kl] the reference has ", reference_columns,
                    " tokens, the model ", columns);
  LinearKl result{std::vector<double>(rows), {}};
  if (gradient) result.dhidden_RD = at::empty_like(hidden_RD);
  // Both models' logits are there at once.
  const int64_t step = std::max<int64_t>(16, head.kernels->chunk_rows(columns) / 2);
  const auto wide = hidden_RD.options().dtype(device::wide_type(hidden_RD));
  auto kl_R = at::empty({rows}, wide);
  at::Tensor scales_R1;
  if (gradient)
    scales_R1 = core::on_device(at::tensor(scales, at::kDouble).to(wide.dtype()), wide.device())
                    .unsqueeze(1);
  nn::HeadPass pass(head, hidden_RD), reference_pass(reference_head, reference_RD);
  const auto log_softmax_of = [&](nn::HeadPass& of, int64_t from, int64_t count, at::Tensor* tanh) {
    auto logits_CV = at::empty({count, columns}, wide);
    of.logits(logits_CV, from, count, tanh);
    return at::log_softmax(logits_CV, -1);
  };
  for (int64_t from = 0; from < rows; from += step) {
    cancel.check();
    const int64_t count = std::min(step, rows - from);
    at::Tensor tanh;
    const auto log_p = log_softmax_of(pass, from, count, gradient ? &tanh : nullptr);
    const auto log_q = log_softmax_of(reference_pass, from, count, nullptr);
    const auto p = log_p.exp();
    const auto difference = log_p - log_q;
    const auto kl_R1 = (forward ? log_q.exp().mul(difference).neg() : p * difference).sum(-1, true);
    kl_R.narrow(0, from, count).copy_(kl_R1.squeeze(1));
    if (!gradient) continue;
    const auto scale = scales_R1.narrow(0, from, count);
    auto dlogits = ((forward ? p - log_q.exp() : p * (difference - kl_R1)) * scale)
                       .to(hidden_RD.scalar_type());
    pass.backward(dlogits, from, count, tanh, result.dhidden_RD);
  }
  if (gradient) pass.finish(result.dhidden_RD);
  const auto kl = core::on_host(kl_R, at::kDouble);
  std::copy_n(kl.const_data_ptr<double>(), rows, result.kl.begin());
  return result;
}

}  // namespace posttrain::losses
