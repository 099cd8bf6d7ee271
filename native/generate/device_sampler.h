#pragma once
#include <ATen/core/Tensor.h>

#include "generate/sampler.h"

namespace posttrain::generate {

/** One token for each of B rows, where their logits lie. */
struct DeviceDraws {
  at::Tensor ids_B;        // int64
  at::Tensor log_probs_B;  // float64; NaN for a row whose logits are not all finite
};

/**
 * sample() for the logits of B rows by torch's operations, without a value that the host waits for.
 * uniforms_B (float64) are core::uniform of each row and position. seen_BV says which tokens a
 * row's history has; undefined without a repetition penalty.
 */
DeviceDraws sample_on_device(const at::Tensor& logits_BV, const at::Tensor& seen_BV,
                             const at::Tensor& uniforms_B, const Sampling& options);

}  // namespace posttrain::generate
