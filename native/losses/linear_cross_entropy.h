#pragma once
#include <vector>

#include "core/cancel.h"
#include "device/label_rows.h"
#include "nn/head.h"

namespace posttrain::losses {

/** Scales of the rows in a gradient; none by default. */
struct RowScales {
  device::ScaleOf of;
  /** They do not depend on the losses of the rows. */
  bool known = false;
};

/** R rows with a label, D hidden, V vocabulary. */
struct LinearCrossEntropy {
  /** -log p(target) of each row, in nats, [R]. */
  std::vector<double> nll;
  /** Entropy of each row's prediction, in nats, [R]. */
  std::vector<double> entropy;
  /** True where the target was the most probable token, [R]. */
  std::vector<uint8_t> correct;
  /** Gradient of the sum over rows of nll and entropy, each times its scale, [R, D]; undefined
   * unless requested. */
  at::Tensor dhidden_RD;
  /** The three of them where they still lie on a device, [3, R]. */
  at::Tensor losses_3R;

  /** Fetches what lies on a device, for which it waits. */
  void read();
};

/**
 * Cross-entropy of the softmax of the head's logits in chunks of rows: [R, V] is never
 * materialized. With scales, the gradient of each chunk is computed while its logits are in
 * memory (6 V D operations a row instead of 8 for recomputing them): dW is added to the head's
 * gradient buffer at once, dh is returned. A row with a non-finite loss has a gradient of NaN.
 * Logits and statistics are float32, float64 for float64 weights.
 *
 * On a device the host waits for nothing where the scales are known; else it reads the losses of
 * all rows at once, and logits of more than one chunk are computed again for their gradient.
 */
LinearCrossEntropy linear_cross_entropy(const at::Tensor& hidden_RD, const nn::Head& head,
                                        const std::vector<int64_t>& targets,
                                        const RowScales& scales, const core::Cancel& cancel);

}  // namespace posttrain::losses
