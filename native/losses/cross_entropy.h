#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <functional>

namespace posttrain::losses {

struct RowLoss {
  double nll;
  double entropy;
  bool correct;
};

/** Differentiated function of a row: nll * -log softmax(x)[target] + entropy * H(softmax(x)). */
struct RowScale {
  double nll;
  double entropy = 0;
};

/** Scale of row `r`, given its loss. Called once a row, from several threads. */
using ScaleOf = std::function<RowScale(int64_t r, const RowLoss& loss)>;

/**
 * Cross-entropy of one row of V logits, -log softmax(x)[target]; where `scale_of` is given the
 * logits are replaced by the gradient, nll * (softmax(x) - onehot(target)) - entropy * p (log p +
 * H), with the scale of row `r`. A row with a non-finite logit gives NaN throughout, never
 * a number.
 */
RowLoss cross_entropy_row(float* logits, int64_t columns, int64_t target, int64_t r,
                          const ScaleOf& scale_of);
RowLoss cross_entropy_row(double* logits, int64_t columns, int64_t target, int64_t r,
                          const ScaleOf& scale_of);

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
