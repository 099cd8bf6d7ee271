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

at::Tensor normed(const std::optional<nn::Norm>& norm, const at::Tensor& x, nn::NormTrace& trace) {
  return norm.has_value() ? norm->forward(x, trace) : x;
}

at::Tensor normed_backward(const std::optional<nn::Norm>& norm, const at::Tensor& x,
                           const at::Tensor& dy, const nn::NormTrace& trace) {
  return norm.has_value() ? norm->backward(x, dy, trace) : dy;
}

}  // namespace

at::Tensor Block::contribution(at::Tensor output, const std::optional<nn::Norm>& norm,
                               at::Tensor& kept, nn::NormTrace& trace) const {
  if (norm.has_value()) {
    kept = output;
    output = norm->forward(kept, trace);
  }
  return spec.residual_multiplier.has_value() ? output.mul_(*spec.residual_multiplier) : output;
}

at::Tensor Block::contribution_backward(const at::Tensor& dy, const std::optional<nn::Norm>& norm,
                                        const at::Tensor& kept, const nn::NormTrace& trace) const {
  const auto scaled = spec.residual_multiplier.has_value() ? dy * *spec.residual_multiplier : dy;
  return normed_backward(norm, kept, scaled, trace);
}

void Block::prepare(const at::Tensor& qkv_TW, const at::Tensor& positions,
                    BlockTrace& trace) const {
  if (q_norm.has_value()) {
    trace.q_raw = head_rows(qkv_TW, 0, spec.heads, spec.head_dim);
    trace.k_raw = head_rows(qkv_TW, spec.heads, spec.kv_heads, spec.head_dim);
    write_head_rows(qkv_TW, q_norm->forward(trace.q_raw, trace.q_norm), 0, spec.heads,
                    spec.head_dim);
    write_head_rows(qkv_TW, k_norm->forward(trace.k_raw, trace.k_norm), spec.heads, spec.kv_heads,
                    spec.head_dim);
  }
  if (rotary != nullptr) rotary->apply(qkv_TW, positions, spec.heads + spec.kv_heads, false);
}

at::Tensor Block::forward(const at::Tensor& x_TD, const Tokens& tokens, const at::Tensor& rows,
                          const BlockAdapter& adapter, BlockTrace& trace, at::Tensor* cache,
                          const core::Cancel& cancel) const {
  trace.input = x_TD;
  trace.attention_input = normed(attention_norm, x_TD, trace.attention_norm);
  trace.qkv = qkv.forward(trace.attention_input, adapter.of(&BlockModules::qkv));
  prepare(trace.qkv, tokens.positions_T, trace);
  if (cache != nullptr)
    kernels->fill_cache(*cache, trace.qkv, tokens.documents, tokens.positions_T, shape());
  trace.attention =
      kernels->attention(trace.qkv, tokens.documents, shape(), &trace.attention_kept, cancel);
  trace.attention_rows = rows.defined() ? trace.attention.index_select(0, rows) : trace.attention;
  trace.middle =
      contribution(out.forward(trace.attention_rows, adapter.of(&BlockModules::out)),
                   attention_post_norm, trace.attention_output, trace.attention_post_norm)
          .add_(rows.defined() ? x_TD.index_select(0, rows) : x_TD);
  trace.mlp_input = normed(mlp_norm, trace.middle, trace.mlp_norm);
  return contribution(mlp.forward(trace.mlp_input, trace.mlp, adapter.mlp()), mlp_post_norm,
                      trace.mlp_output, trace.mlp_post_norm)
      .add_(trace.middle);
}

at::Tensor Block::backward(const at::Tensor& dy, const Tokens& tokens, const at::Tensor& rows,
                           const BlockAdapter& adapter, const BlockTrace& trace,
                           const core::Cancel& cancel) const {
  const auto dmlp_output =
      contribution_backward(dy, mlp_post_norm, trace.mlp_output, trace.mlp_post_norm);
  const auto dmlp_input = mlp.backward(trace.mlp_input, dmlp_output, trace.mlp, adapter.mlp());
  const auto dmiddle = normed_backward(mlp_norm, trace.middle, dmlp_input, trace.mlp_norm).add_(dy);
  const auto doutput = contribution_backward(dmiddle, attention_post_norm, trace.attention_output,
                                             trace.attention_post_norm);
  auto dattention = out.backward(trace.attention_rows, doutput, adapter.of(&BlockModules::out));
  auto dresidual = dmiddle;
  if (rows.defined()) {
    dattention = at::zeros_like(trace.attention).index_copy_(0, rows, dattention);
    dresidual = at::zeros_like(trace.input).index_copy_(0, rows, dmiddle);
  }
  auto dqkv = kernels->attention_backward(dattention, trace.qkv, trace.attention, tokens.documents,
                                          shape(), trace.attention_kept, cancel);
  if (rotary != nullptr) rotary->apply(dqkv, tokens.positions_T, spec.heads + spec.kv_heads, true);
  if (q_norm.has_value()) {
    const auto dq =
        q_norm->backward(trace.q_raw, head_rows(dqkv, 0, spec.heads, spec.head_dim), trace.q_norm);
    const auto dk = k_norm->backward(
        trace.k_raw, head_rows(dqkv, spec.heads, spec.kv_heads, spec.head_dim), trace.k_norm);
    write_head_rows(dqkv, dq, 0, spec.heads, spec.head_dim);
    write_head_rows(dqkv, dk, spec.heads, spec.kv_heads, spec.head_dim);
  }
  const auto dnormed = qkv.backward(trace.attention_input, dqkv, adapter.of(&BlockModules::qkv));
  return normed_backward(attention_norm, trace.input, dnormed, trace.attention_norm)
      .add_(dresidual);
}

at::Tensor Block::decode(const at::Tensor& x_BD, const device::DecodeRows& rows,
                         const BlockAdapter& adapter, at::Tensor& cache) const {
  BlockTrace trace;
  const auto qkv_BW = qkv.decode(normed(attention_norm, x_BD, trace.attention_norm),
                                 adapter.of(&BlockModules::qkv));
  prepare(qkv_BW, rows.positions_B, trace);
  kernels->append_cache(cache, qkv_BW, rows, shape());
  const auto attention = kernels->attention_decode(qkv_BW, cache, rows, shape());
  const auto middle =
      contribution(out.decode(attention, adapter.of(&BlockModules::out)), attention_post_norm,
                   trace.attention_output, trace.attention_post_norm)
          .add_(x_BD);
  const auto mlp_input = normed(mlp_norm, middle, trace.mlp_norm);
  return contribution(mlp.decode(mlp_input, adapter.mlp()), mlp_post_norm, trace.mlp_output,
                      trace.mlp_post_norm)
      .add_(middle);
}

}  // namespace posttrain::models
