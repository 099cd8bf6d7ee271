#include "nn/attention.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/simd.h"

namespace posttrain::nn {
namespace {

constexpr int64_t kWindowBlock = 128;

// One call of the fused kernel: queries [q_from, q_to) see keys [k_from, q_to), causally and within
// the window.
struct Piece {
  int64_t q_from, q_to, k_from;
  bool masked;
};

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

// 0 where query q_from + i may see key k_from + j, else -inf; [queries, keys]
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

// Columns of rows [from, to) as [1, heads, rows, head_dim], a view
at::Tensor heads_of(const at::Tensor& x_TW, int64_t from, int64_t to, int64_t first_head,
                    int64_t heads, int64_t head_dim) {
  return x_TW.slice(0, from, to)
      .narrow(1, first_head * head_dim, heads * head_dim)
      .view({to - from, heads, head_dim})
      .transpose(0, 1)
      .unsqueeze(0);
}

struct Qkv {
  at::Tensor q, k, v;
};

Qkv qkv_of(const at::Tensor& qkv_TW, const Piece& p, const AttentionShape& s) {
  return {heads_of(qkv_TW, p.q_from, p.q_to, 0, s.heads, s.head_dim),
          heads_of(qkv_TW, p.k_from, p.q_to, s.heads, s.kv_heads, s.head_dim),
          heads_of(qkv_TW, p.k_from, p.q_to, s.heads + s.kv_heads, s.kv_heads, s.head_dim)};
}

// Divided by sqrt(head_dim), not multiplied by its inverse, without a scale of its own: the last
// bit differs.
at::Tensor scaled(const at::Tensor& scores, const AttentionShape& s) {
  if (s.scale.has_value()) return scores * *s.scale;
  return scores / std::sqrt(static_cast<double>(s.head_dim));
}

// The reference form, where no fused kernel applies: scores [1, H, Q, K] of grouped heads
at::Tensor plain_scores(const Qkv& x, const Piece& p, const AttentionShape& s,
                        const at::Tensor& k) {
  const auto scores = scaled(at::matmul(x.q, k.transpose(-1, -2)), s);
  return (scores + visible_mask(p, s.window, scores.options())).to(at::kFloat);
}

at::Tensor grouped(const at::Tensor& kv, const AttentionShape& s) {
  return s.heads == s.kv_heads ? kv : kv.repeat_interleave(s.heads / s.kv_heads, 1);
}

at::Tensor ungrouped(const at::Tensor& d, const AttentionShape& s) {
  if (s.heads == s.kv_heads) return d;
  return d.view({1, s.kv_heads, s.heads / s.kv_heads, d.size(2), d.size(3)}).sum(2);
}

}  // namespace

at::Tensor packed_attention(const at::Tensor& qkv_TW, const std::vector<int64_t>& offsets,
                            const AttentionShape& shape, std::vector<at::Tensor>* lse,
                            const core::Cancel& cancel) {
  auto out_TO = at::empty({qkv_TW.size(0), shape.heads * shape.head_dim}, qkv_TW.options());
  for (const auto& piece : pieces_of(offsets, shape.window)) {
    cancel.check();
    const auto x = qkv_of(qkv_TW, piece, shape);
    auto target = heads_of(out_TO, piece.q_from, piece.q_to, 0, shape.heads, shape.head_dim);
    if (qkv_TW.is_cpu()) {
      const auto mask =
          piece.masked
              ? std::optional<at::Tensor>(visible_mask(piece, shape.window, qkv_TW.options()))
              : std::nullopt;
      auto [out, row_lse] = at::_scaled_dot_product_flash_attention_for_cpu(
          x.q, x.k, x.v, 0.0, !piece.masked, mask, shape.scale);
      target.copy_(out);
      if (lse != nullptr) lse->push_back(row_lse);
    } else {
      const auto scores = plain_scores(x, piece, shape, grouped(x.k, shape));
      target.copy_(
          at::matmul(at::softmax(scores, -1).to(qkv_TW.scalar_type()), grouped(x.v, shape)));
      if (lse != nullptr) lse->push_back(at::logsumexp(scores, {-1}));
    }
  }
  return out_TO;
}

at::Tensor packed_attention_backward(const at::Tensor& dout_TO, const at::Tensor& qkv_TW,
                                     const at::Tensor& out_TO, const std::vector<int64_t>& offsets,
                                     const AttentionShape& shape,
                                     const std::vector<at::Tensor>& lse,
                                     const core::Cancel& cancel) {
  const auto pieces = pieces_of(offsets, shape.window);
  // Blocks of a sliding window share keys, so their gradients add up; whole documents are written
  // once.
  auto dqkv_TW = shape.window.has_value() ? at::zeros_like(qkv_TW) : at::empty_like(qkv_TW);
  for (size_t i = 0; i < pieces.size(); ++i) {
    cancel.check();
    const auto& piece = pieces[i];
    const auto x = qkv_of(qkv_TW, piece, shape);
    const auto target = qkv_of(dqkv_TW, piece, shape);
    const auto dout = heads_of(dout_TO, piece.q_from, piece.q_to, 0, shape.heads, shape.head_dim);
    const auto out = heads_of(out_TO, piece.q_from, piece.q_to, 0, shape.heads, shape.head_dim);
    at::Tensor dq, dk, dv;
    if (qkv_TW.is_cpu()) {
      const auto mask =
          piece.masked
              ? std::optional<at::Tensor>(visible_mask(piece, shape.window, qkv_TW.options()))
              : std::nullopt;
      std::tie(dq, dk, dv) = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          dout, x.q, x.k, x.v, out, lse[i], 0.0, !piece.masked, mask, shape.scale);
    } else {
      const auto k = grouped(x.k, shape), v = grouped(x.v, shape);
      const auto p = at::exp(plain_scores(x, piece, shape, k) - lse[i].unsqueeze(-1));
      const auto dp = at::matmul(dout, v.transpose(-1, -2)).to(at::kFloat);
      const auto correction = (dout.to(at::kFloat) * out.to(at::kFloat)).sum(-1, true);
      const auto ds = scaled(p * (dp - correction), shape).to(qkv_TW.scalar_type());
      dq = at::matmul(ds, k);
      dk = ungrouped(at::matmul(ds.transpose(-1, -2), x.q), shape);
      dv = ungrouped(at::matmul(p.to(qkv_TW.scalar_type()).transpose(-1, -2), dout), shape);
    }
    target.q.copy_(dq);
    if (shape.window.has_value()) {
      target.k.add_(dk);
      target.v.add_(dv);
    } else {
      target.k.copy_(dk);
      target.v.copy_(dv);
    }
  }
  return dqkv_TW;
}

namespace {

// All query heads of one key / value head: softmax(q k^T) v over positions [from, to)
POSTTRAIN_SIMD void decode_group(const float* q, const float* keys, const float* values, float* out,
                                 float* scores, int64_t group, int64_t head_dim, int64_t from,
                                 int64_t to, float scale) {
  for (int64_t g = 0; g < group; ++g) {
    const float* qg = q + g * head_dim;
    float* og = out + g * head_dim;
    float highest = -std::numeric_limits<float>::infinity();
    for (int64_t s = from; s < to; ++s) {
      const float* k = keys + s * head_dim;
      float dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t e = 0; e < head_dim; ++e) dot += qg[e] * k[e];
      scores[s - from] = dot * scale;
      highest = std::max(highest, scores[s - from]);
    }
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t s = 0; s < to - from; ++s) {
      scores[s] = core::exp_f32(scores[s] - highest);
      sum += scores[s];
    }
    for (int64_t e = 0; e < head_dim; ++e) og[e] = 0;
    for (int64_t s = from; s < to; ++s) {
      const float p = scores[s - from] / sum;
      const float* v = values + s * head_dim;
#pragma omp simd
      for (int64_t e = 0; e < head_dim; ++e) og[e] += p * v[e];
    }
  }
}

}  // namespace

at::Tensor decode_attention(const at::Tensor& q_BO, const at::Tensor& keys_BKSE,
                            const at::Tensor& values_BKSE, const std::vector<int64_t>& lengths,
                            const AttentionShape& shape) {
  const int64_t rows = q_BO.size(0), group = shape.heads / shape.kv_heads, width = shape.head_dim;
  const double scale = shape.softmax_scale();
  if (q_BO.is_cpu() && q_BO.scalar_type() == at::kFloat) {
    const auto q = q_BO.contiguous();
    auto out = at::empty_like(q);
    const float* qp = q.const_data_ptr<float>();
    float* op = out.mutable_data_ptr<float>();
    const float *kp = keys_BKSE.const_data_ptr<float>(), *vp = values_BKSE.const_data_ptr<float>();
    const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
    at::parallel_for(0, rows * shape.kv_heads, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scores(longest);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t b = i / shape.kv_heads, h = i % shape.kv_heads;
        const int64_t to = lengths[b], from = shape.window.has_value()
                                                  ? std::max<int64_t>(0, to - *shape.window)
                                                  : 0;
        decode_group(qp + (b * shape.heads + h * group) * width,
                     kp + b * keys_BKSE.stride(0) + h * keys_BKSE.stride(1),
                     vp + b * values_BKSE.stride(0) + h * values_BKSE.stride(1),
                     op + (b * shape.heads + h * group) * width, scores.data(), group, width, from,
                     to, static_cast<float>(scale));
      }
    });
    return out;
  }
  // [B, K, G, E] x [B, K, S, E], positions that a row cannot see masked
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  const auto keys = keys_BKSE.narrow(2, 0, longest), values = values_BKSE.narrow(2, 0, longest);
  const auto q = q_BO.view({rows, shape.kv_heads, group, width});
  const auto length = at::tensor(lengths, at::kLong).to(q_BO.device()).view({rows, 1, 1, 1});
  const auto position = at::arange(longest, length.options()).view({1, 1, 1, longest});
  auto hidden = position.ge(length);
  if (shape.window.has_value())
    hidden = at::logical_or(hidden, position.lt(length - *shape.window));
  auto scores = at::matmul(q, keys.transpose(-1, -2))
                    .to(q_BO.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  scores = (scores * scale).masked_fill(hidden, -std::numeric_limits<double>::infinity());
  return at::matmul(at::softmax(scores, -1).to(q_BO.scalar_type()), values)
      .reshape({rows, shape.heads * width});
}

}  // namespace posttrain::nn
