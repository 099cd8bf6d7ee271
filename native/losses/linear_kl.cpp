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
  nn::HeadPass pass(head, hidden_RD), reference_pass(reference_head, reference_RD);
  const auto logits_of = [&](nn::HeadPass& of, const at::Tensor& hidden, int64_t from,
                             int64_t count, at::Tensor* tanh) {
    auto logits_CV = at::empty({count, columns}, hidden.options());
    of.logits(logits_CV, from, count, tanh);
    return logits_CV;
  };
  const auto log_softmax = [](const at::Tensor& logits) {
    return at::log_softmax(logits, -1,
                           logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  };
  for (int64_t from = 0; from < rows; from += step) {
    cancel.check();
    const int64_t count = std::min(step, rows - from);
    at::Tensor tanh;
    const auto log_p =
        log_softmax(logits_of(pass, hidden_RD, from, count, gradient ? &tanh : nullptr));
    const auto log_q = log_softmax(logits_of(reference_pass, reference_RD, from, count, nullptr));
    const auto p = log_p.exp();
    const auto difference = log_p - log_q;
    const auto kl_R1 = (forward ? log_q.exp().mul(difference).neg() : p * difference).sum(-1, true);
    const auto on_cpu = kl_R1.to(at::kCPU, at::kDouble).contiguous();
    std::copy_n(on_cpu.const_data_ptr<double>(), count, result.kl.begin() + from);
    if (!gradient) continue;
    const auto scale = at::tensor(at::ArrayRef<double>(scales.data() + from, count), at::kDouble)
                           .to(p.device(), p.scalar_type())
                           .unsqueeze(1);
    auto dlogits = ((forward ? p - log_q.exp() : p * (difference - kl_R1)) * scale)
                       .to(hidden_RD.scalar_type());
    pass.backward(dlogits, from, count, tanh, result.dhidden_RD);
  }
  if (gradient) pass.finish(result.dhidden_RD);
  return result;
}

}  // namespace posttrain::losses
