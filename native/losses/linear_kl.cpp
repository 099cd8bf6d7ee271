#include "losses/linear_kl.h"

#include <algorithm>

#include "core/matmul.h"

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
  const int64_t step = std::clamp<int64_t>((int64_t{4} << 20) / columns, 16, 512);
  const auto log_softmax = [](const at::Tensor& logits) {
    return at::log_softmax(logits, -1,
                           logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  };
  for (int64_t from = 0; from < rows; from += step) {
    cancel.check();
    const int64_t count = std::min(step, rows - from);
    const auto hidden = hidden_RD.narrow(0, from, count);
    at::Tensor tanh;
    const auto log_p = log_softmax(head.logits(hidden, gradient ? &tanh : nullptr));
    const auto log_q = log_softmax(reference_head.logits(reference_RD.narrow(0, from, count)));
    const auto p = log_p.exp();
    const auto difference = log_p - log_q;
    const auto kl_R1 = (forward ? log_q.exp().mul(difference).neg() : p * difference).sum(-1, true);
    const auto on_cpu = kl_R1.to(at::kCPU, at::kDouble).contiguous();
    std::copy_n(on_cpu.const_data_ptr<double>(), count, result.kl.begin() + from);
    if (!gradient) continue;
    const auto scale = at::tensor(at::ArrayRef<double>(scales.data() + from, count), at::kDouble)
                           .to(p.device(), p.scalar_type())
                           .unsqueeze(1);
    auto dlogits =
        ((forward ? p - log_q.exp() : p * (difference - kl_R1)) * scale).to(hidden.scalar_type());
    auto dhidden = result.dhidden_RD.narrow(0, from, count);
    head.finish_backward(dlogits, tanh);
    core::multiply(dhidden, dlogits, head.weight->value);
    if (head.weight->trainable)
      core::add_transposed_product(head.weight->gradient(), dlogits, hidden);
  }
  return result;
}

}  // namespace posttrain::losses
