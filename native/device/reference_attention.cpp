#include "device/reference_attention.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "device/attention_pieces.h"

namespace posttrain::device {
namespace {

// Divided by sqrt(head_dim), not multiplied by its inverse, without a scale of its own: the last
// bit differs.
at::Tensor scaled(const at::Tensor& scores, const AttentionShape& s) {
  if (s.scale.has_value()) return scores * *s.scale;
  return scores / std::sqrt(static_cast<double>(s.head_dim));
}

// Scores [1, H, Q, K] of grouped heads
at::Tensor scores_of(const Qkv& x, const Piece& p, const AttentionShape& s, const at::Tensor& k) {
  const auto scores = scaled(at::matmul(x.q, k.transpose(-1, -2)), s);
  return (scores + visible_mask(p, s.window, scores.options())).to(wide_type(scores));
}

at::Tensor grouped(const at::Tensor& kv, const AttentionShape& s) {
  return s.heads == s.kv_heads ? kv : kv.repeat_interleave(s.heads / s.kv_heads, 1);
}

at::Tensor ungrouped(const at::Tensor& d, const AttentionShape& s) {
  if (s.heads == s.kv_heads) return d;
  return d.view({1, s.kv_heads, s.heads / s.kv_heads, d.size(2), d.size(3)}).sum(2);
}

at::Tensor attention(const at::Tensor& qkv_TW, const Documents& documents,
                     const AttentionShape& shape, std::vector<at::Tensor>* kept,
                     const core::Cancel& cancel) {
  auto out_TO = at::empty({qkv_TW.size(0), shape.heads * shape.head_dim}, qkv_TW.options());
  for (const auto& piece : pieces_of(documents.offsets, shape.window)) {
    cancel.check();
    const auto x = qkv_of(qkv_TW, piece, shape);
    const auto scores = scores_of(x, piece, shape, grouped(x.k, shape));
    heads_of(out_TO, piece.q_from, piece.q_to, 0, shape.heads, shape.head_dim)
        .copy_(at::matmul(at::softmax(scores, -1).to(qkv_TW.scalar_type()), grouped(x.v, shape)));
    if (kept != nullptr) kept->push_back(at::logsumexp(scores, {-1}));
  }
  return out_TO;
}

at::Tensor attention_backward(const at::Tensor& dout_TO, const at::Tensor& qkv_TW,
                              const at::Tensor& out_TO, const Documents& documents,
                              const AttentionShape& shape, const std::vector<at::Tensor>& kept,
                              const core::Cancel& cancel) {
  const auto pieces = pieces_of(documents.offsets, shape.window);
  // Blocks of a sliding window share keys, so their gradients add up, in float32; whole documents
  // are written once.
  const bool window = shape.window.has_value();
  auto dqkv_TW = window ? at::zeros_like(qkv_TW, qkv_TW.options().dtype(wide_type(qkv_TW)))
                        : at::empty_like(qkv_TW);
  for (size_t i = 0; i < pieces.size(); ++i) {
    cancel.check();
    const auto& piece = pieces[i];
    const auto x = qkv_of(qkv_TW, piece, shape), target = qkv_of(dqkv_TW, piece, shape);
    const auto dout = heads_of(dout_TO, piece.q_from, piece.q_to, 0, shape.heads, shape.head_dim);
    const auto out = heads_of(out_TO, piece.q_from, piece.q_to, 0, shape.heads, shape.head_dim);
    const auto k = grouped(x.k, shape), v = grouped(x.v, shape);
    const auto p = at::exp(scores_of(x, piece, shape, k) - kept[i].unsqueeze(-1));
    const auto wide = p.scalar_type();
    const auto dp = at::matmul(dout, v.transpose(-1, -2)).to(wide);
    const auto correction = (dout.to(wide) * out.to(wide)).sum(-1, true);
    const auto ds = scaled(p * (dp - correction), shape).to(qkv_TW.scalar_type());
    target.q.copy_(at::matmul(ds, k));
    const auto dk = ungrouped(at::matmul(ds.transpose(-1, -2), x.q), shape);
    const auto dv =
        ungrouped(at::matmul(p.to(qkv_TW.scalar_type()).transpose(-1, -2), dout), shape);
    if (window) {
      target.k.add_(dk);
      target.v.add_(dv);
    } else {
      target.k.copy_(dk);
      target.v.copy_(dv);
    }
  }
  return dqkv_TW.to(qkv_TW.scalar_type());
}

void fill_cache(at::Tensor& cache_BS2KE, const at::Tensor& qkv_TW, const Documents& documents,
                const at::Tensor& positions_T, const AttentionShape& shape) {
  const auto tokens_T = at::arange(qkv_TW.size(0), documents.offsets_D1.options());
  const auto rows_T = at::bucketize(tokens_T, documents.offsets_D1, false, true).sub_(1);
  cache_BS2KE.index_put_({rows_T, positions_T}, keys_and_values(qkv_TW, shape));
}

void append_cache(at::Tensor& cache_BS2KE, const at::Tensor& qkv_BW, const DecodeRows& rows,
                  const AttentionShape& shape) {
  cache_BS2KE.index_put_({rows.rows_B, rows.positions_B}, keys_and_values(qkv_BW, shape));
}

// The keys and values of a group of heads are read where they lie: one product for all groups would
// copy the cache for every token.
at::Tensor attention_decode(const at::Tensor& qkv_BW, const at::Tensor& cache_BS2KE,
                            const DecodeRows& rows, const AttentionShape& shape) {
  const int64_t count = qkv_BW.size(0), width = shape.head_dim;
  const int64_t group = shape.heads / shape.kv_heads;
  const auto seen_BS2KE = cache_BS2KE.narrow(1, 0, rows.longest);
  const auto length = rows.lengths_B.view({count, 1, 1});
  const auto position = at::arange(rows.longest, length.options()).view({1, 1, rows.longest});
  auto hidden_B1S = position.ge(length);
  if (shape.window.has_value())
    hidden_B1S = at::logical_or(hidden_B1S, position.lt(length - *shape.window));
  auto out_BO = at::empty({count, shape.heads * width}, qkv_BW.options());
  for (int64_t k = 0; k < shape.kv_heads; ++k) {
    const auto heads = [&](const at::Tensor& x) {
      return x.narrow(1, k * group * width, group * width).view({count, group, width});
    };
    const auto cached_BSE = [&](int64_t which) { return seen_BS2KE.select(2, which).select(2, k); };
    auto scores_BGS = at::bmm(heads(qkv_BW), cached_BSE(0).transpose(1, 2)).to(wide_type(qkv_BW));
    scores_BGS.mul_(shape.softmax_scale())
        .masked_fill_(hidden_B1S, -std::numeric_limits<double>::infinity());
    heads(out_BO).copy_(
        at::bmm(at::softmax(scores_BGS, -1).to(qkv_BW.scalar_type()), cached_BSE(1)));
  }
  return out_BO;
}

}  // namespace

void use_reference_attention(Kernels& kernels) {
  kernels.attention = attention;
  kernels.attention_backward = attention_backward;
  kernels.fill_cache = fill_cache;
  kernels.append_cache = append_cache;
  kernels.attention_decode = attention_decode;
}

}  // namespace posttrain::device
