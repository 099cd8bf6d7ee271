#include "losses/linear_kl.h"

#include <algorithm>

#include "core/matmul.h"

namespace posttrain::losses {

LinearKl linear_kl(const at::Tensor& hidden_RD, nn::Parameter& head_VD,
                   const at::Tensor& reference_RD, const at::Tensor& reference_head_VD,
                   KlDirection direction, const std::vector<double>& scales, bool gradient,
                   const core::Cancel& cancel) {
  const bool forward = direction == KlDirection::forward;
  const int64_t rows = hidden_RD.size(0), columns = head_VD.value.size(0);
  TORCH_CHECK_VALUE(reference_head_VD.size(0) == columns, "[kl] the reference has ",
                    reference_head_VD.size(0), " tokens, the model ", columns);
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
    const auto log_p = log_softmax(core::product(hidden, head_VD.value.t()));
    const auto log_q =
        log_softmax(core::product(reference_RD.narrow(0, from, count), reference_head_VD.t()));
    const auto p = log_p.exp();
    const auto difference = log_p - log_q;
    const auto kl_R1 = (forward ? log_q.exp().mul(difference).neg() : p * difference).sum(-1, true);
    const auto on_cpu = kl_R1.to(at::kCPU, at::kDouble).contiguous();
    std::copy_n(on_cpu.const_data_ptr<double>(), count, result.kl.begin() + from);
    if (!gradient) continue;
    const auto scale = at::tensor(at::ArrayRef<double>(scales.data() + from, count), at::kDouble)
                           .to(p.device(), p.scalar_type())
                           .unsqueeze(1);
    const auto dlogits =
        ((forward ? p - log_q.exp() : p * (difference - kl_R1)) * scale).to(hidden.scalar_type());
    auto dhidden = result.dhidden_RD.narrow(0, from, count);
    core::multiply(dhidden, dlogits, head_VD.value);
    if (head_VD.trainable) core::add_transposed_product(head_VD.gradient(), dlogits, hidden);
  }
  return result;
}

}  // namespace posttrain::losses
