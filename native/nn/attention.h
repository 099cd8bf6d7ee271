#pragma once
#include <ATen/ATen.h>

#include <cmath>
#include <optional>
#include <vector>

#include "core/cancel.h"

namespace posttrain::nn {

/** T tokens, W = (heads + 2 kv_heads) head_dim columns of qkv, D documents. */
struct AttentionShape {
  int64_t heads = 1;
  int64_t kv_heads = 1;
  int64_t head_dim = 1;
  /** A token sees itself and window - 1 tokens before it; absent: all before it. */
  std::optional<int64_t> window;
  /** Factor of the scores; absent: 1 / sqrt(head_dim). */
  std::optional<double> scale;

  double softmax_scale() const {
    return scale.has_value() ? *scale : 1 / std::sqrt(static_cast<double>(head_dim));
  }
};

/**
 * Causal attention of packed documents; no token sees another document. qkv [T, W] holds q, k, v of
 * each token; `offsets` [D + 1] cuts T. The log-sum-exp of each piece is kept in `lse`. Each
 * document, and within a sliding window each block of queries with the keys it can see, is one call
 * of the fused kernel into a preallocated result: no mask of a whole document is ever built.
 */
at::Tensor packed_attention(const at::Tensor& qkv_TW, const std::vector<int64_t>& offsets,
                            const AttentionShape& shape, std::vector<at::Tensor>* lse,
                            const core::Cancel& cancel);

/** dqkv [T, W] from dout [T, heads * head_dim]. */
at::Tensor packed_attention_backward(const at::Tensor& dout_TO, const at::Tensor& qkv_TW,
                                     const at::Tensor& out_TO, const std::vector<int64_t>& offsets,
                                     const AttentionShape& shape,
                                     const std::vector<at::Tensor>& lse,
                                     const core::Cancel& cancel);

/**
 * One new token for each of B rows over its cached keys and values. q [B, heads * head_dim]; cache
 * rows [B, kv_heads, S, head_dim]; row b sees positions up to lengths[b] - 1.
 */
at::Tensor decode_attention(const at::Tensor& q_BO, const at::Tensor& keys_BKSE,
                            const at::Tensor& values_BKSE, const std::vector<int64_t>& lengths,
                            const AttentionShape& shape);

}  // namespace posttrain::nn
