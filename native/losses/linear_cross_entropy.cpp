#include "losses/linear_cross_entropy.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "core/matmul.h"
#include "losses/cross_entropy.h"

namespace posttrain::losses {
namespace {

// Logits of one chunk: 32 MB of float32, between 16 and 1024 rows
int64_t chunk_rows(int64_t columns) {
  return std::clamp<int64_t>((int64_t{8} << 20) / columns, 16, 1024);
}

void rows_on_cpu(at::Tensor& logits, const int64_t* targets, int64_t first, const ScaleOf& scale_of,
                 double* nll, double* entropy, uint8_t* correct) {
  const int64_t rows = logits.size(0), columns = logits.size(1), stride = logits.stride(0);
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "linear_cross_entropy", [&] {
    scalar_t* x = logits.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, rows, 1, [&](int64_t from, int64_t to) {
      for (int64_t r = from; r < to; ++r) {
        const auto row =
            cross_entropy_row(x + r * stride, columns, targets[r], first + r, scale_of);
        nll[r] = row.nll;
        entropy[r] = row.entropy;
        correct[r] = row.correct;
      }
    });
  });
}

// Made of torch's operations, for other devices; logits float32, replaced by their gradient
void rows_on_device(at::Tensor& logits, const int64_t* targets, int64_t first,
                    const ScaleOf& scale_of, double* nll, double* entropy, uint8_t* correct) {
  const int64_t rows = logits.size(0);
  const auto device = logits.device();
  const auto target =
      at::tensor(at::ArrayRef<int64_t>(targets, rows), at::kLong).to(device).unsqueeze(1);
  const auto log_p = at::log_softmax(logits, -1);
  const auto p = log_p.exp();
  const auto row_nll = log_p.gather(1, target).neg().squeeze(1).to(at::kDouble).cpu();
  const auto row_entropy = (p * log_p).sum(-1).neg().to(at::kDouble).cpu();
  const auto row_correct = logits.argmax(-1, true).eq(target).squeeze(1).cpu();
  for (int64_t r = 0; r < rows; ++r) {
    nll[r] = row_nll.const_data_ptr<double>()[r];
    entropy[r] = row_entropy.const_data_ptr<double>()[r];
    correct[r] = row_correct.const_data_ptr<bool>()[r];
  }
  if (!scale_of) return;
  std::vector<double> of_nll(rows), of_entropy(rows);
  for (int64_t r = 0; r < rows; ++r) {
    const auto scale = scale_of(first + r, {nll[r], entropy[r], correct[r] != 0});
    of_nll[r] = scale.nll;
    of_entropy[r] = scale.entropy;
  }
  const auto column = [&](const std::vector<double>& values) {
    return at::tensor(values, at::kDouble).to(device, p.scalar_type()).unsqueeze(1);
  };
  const auto entropy_R1 = (p * log_p).sum(-1, true).neg();
  logits.copy_(p.scatter_add(1, target, at::full_like(target, -1, p.options())) * column(of_nll) -
               p * (log_p + entropy_R1) * column(of_entropy));
}

}  // namespace

LinearCrossEntropy linear_cross_entropy(const at::Tensor& hidden_RD, const nn::Head& head,
                                        const std::vector<int64_t>& targets,
                                        const ScaleOf& scale_of, const core::Cancel& cancel) {
  const int64_t rows = hidden_RD.size(0), columns = head.weight->value.size(0);
  LinearCrossEntropy result{
      std::vector<double>(rows), std::vector<double>(rows), std::vector<uint8_t>(rows), {}};
  if (scale_of) result.dhidden_RD = at::empty_like(hidden_RD);
  if (rows == 0) return result;
  const int64_t step = std::min(chunk_rows(columns), rows);
  nn::HeadPass pass(head, hidden_RD);
  auto buffer = at::empty({step, core::fast_stride(columns)}, hidden_RD.options());
  for (int64_t from = 0; from < rows; from += step) {
    cancel.check();
    const int64_t count = std::min(step, rows - from);
    auto logits = buffer.narrow(0, 0, count).narrow(1, 0, columns);
    at::Tensor tanh;
    pass.logits(logits, from, count, scale_of ? &tanh : nullptr);
    // Half precision is upcast for the softmax only.
    const bool half = logits.scalar_type() != at::kFloat && logits.scalar_type() != at::kDouble;
    auto wide = half ? logits.to(at::kFloat) : logits;
    const auto compute = wide.is_cpu() ? rows_on_cpu : rows_on_device;
    compute(wide, targets.data() + from, from, scale_of, result.nll.data() + from,
            result.entropy.data() + from, result.correct.data() + from);
    if (!scale_of) continue;
    auto dlogits = half ? wide.to(logits.scalar_type()) : wide;
    pass.backward(dlogits, from, count, tanh, result.dhidden_RD);
  }
  if (scale_of) pass.finish(result.dhidden_RD);
  return result;
}

}  // namespace posttrain::losses
