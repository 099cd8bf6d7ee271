#pragma once
#include <vector>

#include "core/cancel.h"
#include "models/spec.h"
#include "models/tokens.h"
#include "nn/attention.h"
#include "nn/linear.h"
#include "nn/mlp.h"
#include "nn/norm.h"
#include "nn/rotary.h"

namespace posttrain::models {

/** What the forward of a block keeps for its backward. */
struct BlockTrace {
  at::Tensor input;  // [T, D]
  nn::NormTrace attention_norm;
  at::Tensor attention_input;  // [T, D]
  at::Tensor q_raw, k_raw;     // [T * heads, E]: before the norm of q and k
  nn::NormTrace q_norm, k_norm;
  at::Tensor qkv;  // [T, W], rotated
  at::Tensor attention;
  std::vector<at::Tensor> lse;
  at::Tensor attention_rows;  // [R, heads * E]: what `out` reads
  at::Tensor middle;          // [R, D]
  nn::NormTrace mlp_norm;
  at::Tensor mlp_input;
  nn::MlpTrace mlp;
};

/** Keys and values of one layer for B rows, [B, kv_heads, S, E], written in place. */
struct KvCache {
  at::Tensor keys, values;
};

/** The low-rank updates of one block. */
struct BlockAdapter {
  std::vector<nn::LowRank> qkv, out, up, down;
};

/** What stands upon the base in one forward of a block; nothing by default. */
struct BlockPass {
  const BlockAdapter* adapter = nullptr;
  uint64_t dropout_seed = 0;

  nn::LoraPass of(std::vector<nn::LowRank> BlockAdapter::* linear) const {
    return adapter == nullptr ? nn::LoraPass{} : nn::LoraPass{&(adapter->*linear), dropout_seed};
  }
  nn::MlpLora mlp() const { return {of(&BlockAdapter::up), of(&BlockAdapter::down)}; }
};

/** x + attention(norm(x)), then x + mlp(norm(x)). */
struct Block {
  LayerSpec spec;
  nn::Norm attention_norm, mlp_norm;
  nn::Norm q_norm, k_norm;
  nn::Linear qkv, out;
  nn::Mlp mlp;
  nn::Rotary* rotary = nullptr;

  nn::AttentionShape shape() const {
    return {spec.heads, spec.kv_heads, spec.head_dim, spec.window};
  }

  /**
   * [T, D] -> [T, D], or [R, D] where `rows` names the R tokens whose result is wanted: all keys
   * and values are computed, the rest only for them. Where `cache` is given, keys and values of
   * document d are copied to its row d.
   */
  at::Tensor forward(const at::Tensor& x_TD, const Tokens& tokens, const at::Tensor& rows,
                     const BlockPass& pass, BlockTrace& trace, KvCache* cache,
                     const core::Cancel& cancel) const;
  /** dy is [T, D], or [R, D] with `rows`; returns dx [T, D]. */
  at::Tensor backward(const at::Tensor& dy, const Tokens& tokens, const at::Tensor& rows,
                      const BlockPass& pass, const BlockTrace& trace,
                      const core::Cancel& cancel) const;
  /** One new token a row: x [B, D] at positions [B]; writes keys and values at those positions of
   * the cache. */
  at::Tensor decode(const at::Tensor& x_BD, const at::Tensor& positions_B,
                    const std::vector<int64_t>& lengths, const BlockPass& pass,
                    KvCache& cache) const;

 private:
  at::Tensor project(const at::Tensor& normed, const at::Tensor& positions, const BlockPass& pass,
                     BlockTrace& trace) const;
};

}  // namespace posttrain::models
