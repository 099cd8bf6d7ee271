#pragma once
#include <cstdint>
#include <functional>

namespace posttrain::device {

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

}  // namespace posttrain::device
