#pragma once
#include <ATen/ATen.h>

#include <optional>
#include <vector>

#include "device/kernels.h"

namespace posttrain::device {

/** Queries [q_from, q_to) that see keys [k_from, q_to), causally and within the window. */
struct Piece {
  int64_t q_from, q_to, k_from;
  bool masked;
};

/** Each document, and within a sliding window each block of queries with the keys it can see: no
 * mask of a whole document is ever built. */
std::vector<Piece> pieces_of(const std::vector<int64_t>& offsets, std::optional<int64_t> window);

/** 0 where query q_from + i may see key k_from + j, else -inf; [queries, keys]. */
at::Tensor visible_mask(const Piece& piece, std::optional<int64_t> window,
                        const at::TensorOptions& options);

/** Views of queries, keys and values. */
struct Qkv {
  at::Tensor q, k, v;
};
/** Of all tokens, [T, heads, head_dim]. */
Qkv packed_qkv(const at::Tensor& qkv_TW, const AttentionShape& shape);
/** Of a piece, [1, heads, rows, head_dim]. */
Qkv qkv_of(const at::Tensor& qkv_TW, const Piece& piece, const AttentionShape& shape);

/** Columns of rows [from, to) as [1, heads, rows, head_dim], a view. */
at::Tensor heads_of(const at::Tensor& x_TW, int64_t from, int64_t to, int64_t first_head,
                    int64_t heads, int64_t head_dim);

/** Keys and values of each row of qkv, [T, 2, kv_heads, head_dim], a view. */
inline at::Tensor keys_and_values(const at::Tensor& qkv_TW, const AttentionShape& shape) {
  return qkv_TW.narrow(1, shape.heads * shape.head_dim, 2 * shape.kv_heads * shape.head_dim)
      .view({qkv_TW.size(0), 2, shape.kv_heads, shape.head_dim});
}

}  // namespace posttrain::device
