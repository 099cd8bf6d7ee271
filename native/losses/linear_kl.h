#pragma once
#include <vector>

#include "core/cancel.h"
#include "losses/kl.h"
#include "nn/parameter.h"

namespace posttrain::losses {

struct LinearKl {
  /** KL of each row over the whole vocabulary, in nats, [R]. */
  std::vector<double> kl;
  /** Gradient of sum of scales[r] * kl[r] by the hidden states, [R, D]; undefined when none was
   * asked for. */
  at::Tensor dhidden_RD;
};

/**
 * KL between softmax(h W^T) and softmax(h_ref W_ref^T), row by row and in chunks: [R, V] is never
 * made. The gradient of each chunk is taken while it is at hand; dW is added to the head's buffer.
 * The reference gets none.
 */
LinearKl linear_kl(const at::Tensor& hidden_RD, nn::Parameter& head_VD,
                   const at::Tensor& reference_RD, const at::Tensor& reference_head_VD,
                   KlDirection direction, const std::vector<double>& scales, bool gradient,
                   const core::Cancel& cancel);

}  // namespace posttrain::losses
