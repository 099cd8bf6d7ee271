#include "losses/linear_cross_entropy.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace posttrain::losses {
LinearCrossEntropy linear_cross_entropy(const at::Tensor& hidden_RD, const nn::Head& head,
                                        const std::vector<int64_t>& targets,
                                        const device::ScaleOf& scale_of,
                                        const core::Cancel& cancel) {
  const int64_t rows = hidden_RD.size(0), columns = head.weight->value.size(0);
  LinearCrossEntropy result{
      std::vector<double>(rows), std::vector<double>(rows), std::vector<uint8_t>(rows), {}};
  if (scale_of) result.dhidden_RD = at::empty_like(hidden_RD);
  if (rows == 0) return result;
  const int64_t step =
      std::min(rows, std::clamp<int64_t>(head.kernels->logits_of_chunk / columns, 16, 1024));
  nn::HeadPass pass(head, hidden_RD);
  auto buffer = at::empty({step, head.kernels->logit_columns(columns)}, hidden_RD.options());
  for (int64_t from = 0; from < rows; from += step) {
    cancel.check();
    const int64_t count = std::min(step, rows - from);
    auto logits = buffer.narrow(0, 0, count).narrow(1, 0, columns);
    at::Tensor tanh;
    pass.logits(logits, from, count, scale_of ? &tanh : nullptr);
    // Half precision is upcast for the softmax only.
    const bool half = logits.scalar_type() != at::kFloat && logits.scalar_type() != at::kDouble;
    auto wide = half ? logits.to(at::kFloat) : logits;
    head.kernels->label_rows(wide, targets.data() + from, from, scale_of, result.nll.data() + from,
                             result.entropy.data() + from, result.correct.data() + from);
    if (!scale_of) continue;
    auto dlogits = half ? wide.to(logits.scalar_type()) : wide;
    pass.backward(dlogits, from, count, tanh, result.dhidden_RD);
  }
  if (scale_of) pass.finish(result.dhidden_RD);
  return result;
}

}  // namespace posttrain::losses
