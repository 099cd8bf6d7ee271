#pragma once
#include <vector>

#include "core/cancel.h"
#include "losses/kl.h"
#include "nn/head.h"

namespace posttrain::losses {

struct LinearKl {
  /** KL of each row over the whole vocabulary, in nats, [R]. */
  std::vector<double> kl;
  /** Gradient of sum of scales[r] * kl[r] by the hidden states, [R, D]; undefined unless
   * requested. */
  at::Tensor dhidden_RD;
};

/**
 * KL between the softmax of the head's logits and of the reference's, row by row and in chunks: [R,
 * V] is never materialized. Each chunk's gradient is computed while it is in memory; dW is added to
 * the head's buffer. The reference gets none.
 */
LinearKl linear_kl(const at::Tensor& hidden_RD, const nn::Head& head,
                   const at::Tensor& reference_RD, const nn::Head& reference_head,
                   KlDirection direction, const std::vector<double>& scales, bool gradient,
                   const core::Cancel& cancel);

}  // namespace posttrain::losses
