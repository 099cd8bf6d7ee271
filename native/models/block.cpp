#include "models/block.h"

namespace posttrain::models {
namespace {

// The q or k columns of qkv as rows of one head each, [T * heads, E], copied
at::Tensor head_rows(const at::Tensor& qkv_TW, int64_t first_head, int64_t heads,
                     int64_t head_dim) {
  return qkv_TW.narrow(1, first_head * head_dim, heads * head_dim)
      .reshape({qkv_TW.size(0) * heads, head_dim})
      .contiguous();
}

void write_head_rows(const at::Tensor& qkv_TW, const at::Tensor& rows, int64_t first_head,
                     int64_t heads, int64_t head_dim) {
  qkv_TW.narrow(1, first_head * head_dim, heads * head_dim)
      .copy_(rows.view({qkv_TW.size(0), heads * head_dim}));
}

}  // namespace

at::Tensor Block::project(const at::Tensor& normed, const at::Tensor& positions,
                          const BlockPass& pass, BlockTrace& trace) const {
  auto result = qkv.forward(normed, pass.of(&BlockAdapter::qkv));
  if (spec.qk_norm) {
    trace.q_raw = head_rows(result, 0, spec.heads, spec.head_dim);
    trace.k_raw = head_rows(result, spec.heads, spec.kv_heads, spec.head_dim);
    write_head_rows(result, q_norm.forward(trace.q_raw, trace.q_norm), 0, spec.heads,
                    spec.head_dim);
    write_head_rows(result, k_norm.forward(trace.k_raw, trace.k_norm), spec.heads, spec.kv_heads,
                    spec.head_dim);
  }
  if (rotary != nullptr) rotary->apply(result, positions, spec.heads + spec.kv_heads, false);
  return result;
}

at::Tensor Block::forward(const at::Tensor& x_TD, const Tokens& tokens, const at::Tensor& rows,
                          const BlockPass& pass, BlockTrace& trace, KvCache* cache,
                          const core::Cancel& cancel) const {
  trace.input = x_TD;
  trace.attention_input = attention_norm.forward(x_TD, trace.attention_norm);
  trace.qkv = project(trace.attention_input, tokens.positions_T, pass, trace);
  if (cache != nullptr) {
    for (size_t d = 0; d + 1 < tokens.offsets.size(); ++d) {
      const int64_t from = tokens.offsets[d], length = tokens.offsets[d + 1] - from;
      auto kv = trace.qkv.narrow(0, from, length)
                    .narrow(1, spec.heads * spec.head_dim, 2 * spec.kv_heads * spec.head_dim)
                    .view({length, 2, spec.kv_heads, spec.head_dim});
      const auto row = static_cast<int64_t>(d);
      cache->keys.select(0, row).narrow(1, 0, length).copy_(kv.select(1, 0).transpose(0, 1));
      cache->values.select(0, row).narrow(1, 0, length).copy_(kv.select(1, 1).transpose(0, 1));
    }
  }
  trace.attention = nn::packed_attention(trace.qkv, tokens.offsets, shape(), &trace.lse, cancel);
  trace.attention_rows = rows.defined() ? trace.attention.index_select(0, rows) : trace.attention;
  trace.middle = out.forward(trace.attention_rows, pass.of(&BlockAdapter::out))
                     .add_(rows.defined() ? x_TD.index_select(0, rows) : x_TD);
  trace.mlp_input = mlp_norm.forward(trace.middle, trace.mlp_norm);
  return mlp.forward(trace.mlp_input, trace.mlp, pass.mlp()).add_(trace.middle);
}

at::Tensor Block::backward(const at::Tensor& dy, const Tokens& tokens, const at::Tensor& rows,
                           const BlockPass& pass, const BlockTrace& trace,
                           const core::Cancel& cancel) const {
  const auto dmlp_input = mlp.backward(trace.mlp_input, dy, trace.mlp, pass.mlp());
  const auto dmiddle = mlp_norm.backward(trace.middle, dmlp_input, trace.mlp_norm).add_(dy);
  auto dattention = out.backward(trace.attention_rows, dmiddle, pass.of(&BlockAdapter::out));
  auto dresidual = dmiddle;
  if (rows.defined()) {
    dattention = at::zeros_like(trace.attention).index_copy_(0, rows, dattention);
    dresidual = at::zeros_like(trace.input).index_copy_(0, rows, dmiddle);
  }
  auto dqkv = nn::packed_attention_backward(dattention, trace.qkv, trace.attention, tokens.offsets,
                                            shape(), trace.lse, cancel);
  if (rotary != nullptr) rotary->apply(dqkv, tokens.positions_T, spec.heads + spec.kv_heads, true);
  if (spec.qk_norm) {
    const auto dq =
        q_norm.backward(trace.q_raw, head_rows(dqkv, 0, spec.heads, spec.head_dim), trace.q_norm);
    const auto dk = k_norm.backward(
        trace.k_raw, head_rows(dqkv, spec.heads, spec.kv_heads, spec.head_dim), trace.k_norm);
    write_head_rows(dqkv, dq, 0, spec.heads, spec.head_dim);
    write_head_rows(dqkv, dk, spec.heads, spec.kv_heads, spec.head_dim);
  }
  const auto dnormed = qkv.backward(trace.attention_input, dqkv, pass.of(&BlockAdapter::qkv));
  return attention_norm.backward(trace.input, dnormed, trace.attention_norm).add_(dresidual);
}

at::Tensor Block::decode(const at::Tensor& x_BD, const at::Tensor& positions_B,
                         const std::vector<int64_t>& lengths, const BlockPass& pass,
                         KvCache& cache) const {
  BlockTrace trace;
  const int64_t rows = x_BD.size(0);
  const auto projected =
      project(attention_norm.forward(x_BD, trace.attention_norm), positions_B, pass, trace);
  const auto kv = projected.narrow(1, spec.heads * spec.head_dim, 2 * spec.kv_heads * spec.head_dim)
                      .view({rows, 2, spec.kv_heads, spec.head_dim});
  for (int64_t b = 0; b < rows; ++b) {
    cache.keys.select(0, b).select(1, lengths[b] - 1).copy_(kv.select(0, b).select(0, 0));
    cache.values.select(0, b).select(1, lengths[b] - 1).copy_(kv.select(0, b).select(0, 1));
  }
  const auto q = projected.narrow(1, 0, spec.heads * spec.head_dim).contiguous();
  const auto attention = nn::decode_attention(q, cache.keys, cache.values, lengths, shape());
  const auto middle = out.forward(attention, pass.of(&BlockAdapter::out)).add_(x_BD);
  return mlp.forward(mlp_norm.forward(middle, trace.mlp_norm), trace.mlp, pass.mlp()).add_(middle);
}

}  // namespace posttrain::models
