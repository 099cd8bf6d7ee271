#pragma once
#include <ATen/ATen.h>

#include <cstdint>

namespace posttrain::losses {

struct CrossEntropy {
  /** Mean over the counted rows; 0 where there are none. */
  double loss;
  int64_t count;
  /** Gradient of the mean, [N, V]; undefined unless requested. */
  at::Tensor gradient;
};

/** loss = -(1 / count) sum over rows with label != ignore_index of log
 * softmax(logits[n])[labels[n]]; no shift. */
CrossEntropy cross_entropy(const at::Tensor& logits_NV, const int32_t* labels_N,
                           int64_t ignore_index, bool gradient);

}  // namespace posttrain::losses
