#pragma once
#include <optional>

#include "device/kernels.h"
#include "nn/lora.h"
#include "nn/parameter.h"

namespace posttrain::nn {

/** Row ids[t] of the weight [V, D] for each token, [T, D]. */
at::Tensor embedding(const Parameter& weight, const at::Tensor& ids_T);
/** Adds dy [T, D] to rows ids[t] of the gradient. The row `padding_id` gets none, as with torch's
 * padding_idx. */
void embedding_backward(const device::Kernels& kernels, Parameter& weight, const at::Tensor& ids_T,
                        const at::Tensor& dy_TD, std::optional<int64_t> padding_id = std::nullopt);

/**
 * Adds the low-rank updates of an embedding to its rows x [T, D]: scale * b[ids] a, where an update
 * W += scale * b a of the weight [V, D] has b [V, r] and a [r, D]. DoRA rescales the columns.
 */
void embedding_update(at::Tensor& x_TD, const Parameter& weight, const at::Tensor& ids_T,
                      const std::vector<LowRank>& modules);
/** Adds the gradients of the updates from dy [T, D] to their buffers; `padding_id` gets none in b.
 */
void embedding_update_backward(const device::Kernels& kernels, const Parameter& weight,
                               const at::Tensor& ids_T, const at::Tensor& dy_TD,
                               const std::vector<LowRank>& modules,
                               std::optional<int64_t> padding_id = std::nullopt);

}  // namespace posttrain::nn
