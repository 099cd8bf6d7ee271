#pragma once
#include <optional>

#include "nn/parameter.h"

namespace posttrain::nn {

/** Row ids[t] of the weight [V, D] for each token, [T, D]. */
at::Tensor embedding(const Parameter& weight, const at::Tensor& ids_T);
/**
 * Adds dy [T, D] to rows ids[t] of the gradient, in the order of the tokens, so that the sum is
 * deterministic. The row `padding_id` gets no gradient, as with torch's padding_idx.
 */
void embedding_backward(Parameter& weight, const at::Tensor& ids_T, const at::Tensor& dy_TD,
                        std::optional<int64_t> padding_id = std::nullopt);

}  // namespace posttrain::nn
