#include "device/attention_pieces.h"

#include <algorithm>
#include <limits>

namespace posttrain::device {
namespace {

constexpr int64_t kWindowBlock = 128;

}  // namespace

std::vector<Piece> pieces_of(const std::vector<int64_t>& offsets, std::optional<int64_t> window) {
  std::vector<Piece> pieces;
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    const int64_t from = offsets[d], to = offsets[d + 1];
    if (from == to) continue;
    if (!window.has_value() || to - from <= *window) {
      pieces.push_back({from, to, from, false});
      continue;
    }
    for (int64_t q = from; q < to; q += kWindowBlock) {
      pieces.push_back({q, std::min(q + kWindowBlock, to), std::max(from, q - *window + 1), true});
    }
  }
  return pieces;
}

at::Tensor visible_mask(const Piece& piece, std::optional<int64_t> window,
                        const at::TensorOptions& options) {
  const auto index = options.dtype(at::kLong);
  const auto q = at::arange(piece.q_from, piece.q_to, index).unsqueeze(1);
  const auto k = at::arange(piece.k_from, piece.q_to, index).unsqueeze(0);
  auto hidden = k.gt(q);
  if (window.has_value()) hidden = at::logical_or(hidden, k.le(q - *window));
  return at::zeros(hidden.sizes(), options)
      .masked_fill_(hidden, -std::numeric_limits<double>::infinity());
}

at::Tensor heads_of(const at::Tensor& x_TW, int64_t from, int64_t to, int64_t first_head,
                    int64_t heads, int64_t head_dim) {
  return x_TW.slice(0, from, to)
      .narrow(1, first_head * head_dim, heads * head_dim)
      .view({to - from, heads, head_dim})
      .transpose(0, 1)
      .unsqueeze(0);
}

Qkv packed_qkv(const at::Tensor& qkv_TW, const AttentionShape& s) {
  const auto of = [&](int64_t first, int64_t heads) {
    return qkv_TW.narrow(1, first * s.head_dim, heads * s.head_dim)
        .view({qkv_TW.size(0), heads, s.head_dim});
  };
  return {of(0, s.heads), of(s.heads, s.kv_heads), of(s.heads + s.kv_heads, s.kv_heads)};
}

Qkv qkv_of(const at::Tensor& qkv_TW, const Piece& p, const AttentionShape& s) {
  return {heads_of(qkv_TW, p.q_from, p.q_to, 0, s.heads, s.head_dim),
          heads_of(qkv_TW, p.k_from, p.q_to, s.heads, s.kv_heads, s.head_dim),
          heads_of(qkv_TW, p.k_from, p.q_to, s.heads + s.kv_heads, s.kv_heads, s.head_dim)};
}

}  // namespace posttrain::device
