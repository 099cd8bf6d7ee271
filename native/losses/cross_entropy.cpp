#include "losses/cross_entropy.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <vector>

#include "device/label_rows.h"

namespace posttrain::losses {

CrossEntropy cross_entropy(const at::Tensor& logits_NV, const int32_t* labels_N,
                           int64_t ignore_index, bool gradient) {
  const int64_t rows = logits_NV.size(0), columns = logits_NV.size(1);
  CrossEntropy result{0, 0, {}};
  for (int64_t n = 0; n < rows; ++n) {
    if (labels_N[n] == ignore_index) continue;
    TORCH_CHECK_VALUE(labels_N[n] >= 0 && labels_N[n] < columns, "[crossEntropy] label ",
                      labels_N[n], " of row ", n, " is outside the ", columns,
                      " columns and is not the ignoreIndex ", ignore_index);
    ++result.count;
  }
  auto work = logits_NV.clone();
  std::vector<double> nll(rows, 0);
  const double scale = result.count > 0 ? 1.0 / static_cast<double>(result.count) : 0;
  const device::ScaleOf mean = [&](int64_t, const device::RowLoss&) {
    return device::RowScale{scale};
  };
  AT_DISPATCH_FLOATING_TYPES(work.scalar_type(), "cross_entropy", [&] {
    scalar_t* x = work.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, rows, 1, [&](int64_t from, int64_t to) {
      for (int64_t n = from; n < to; ++n) {
        scalar_t* row = x + n * columns;
        if (labels_N[n] == ignore_index) {
          if (gradient) std::fill(row, row + columns, scalar_t(0));
        } else {
          nll[n] = device::cross_entropy_row(row, columns, labels_N[n], n,
                                             gradient ? mean : device::ScaleOf())
                       .nll;
        }
      }
    });
  });
  for (const double value : nll) result.loss += value * scale;
  if (gradient) result.gradient = work;
  return result;
}

}  // namespace posttrain::losses
