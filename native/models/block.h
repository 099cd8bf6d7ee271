#pragma once
#include <optional>
#include <vector>

#include "core/cancel.h"
#include "device/kernels.h"
#include "models/spec.h"
#include "models/tokens.h"
#include "nn/linear.h"
#include "nn/mlp.h"
#include "nn/norm.h"
#include "nn/rotary.h"

namespace posttrain::models {

/** Kept by the forward of a block for its backward. */
struct BlockTrace {
  at::Tensor input;  // [T, D]
  nn::NormTrace attention_norm;
  at::Tensor attention_input;  // [T, D]
  at::Tensor q_raw, k_raw;     // [T * heads, E]: before the norm of q and k
  nn::NormTrace q_norm, k_norm;
  at::Tensor qkv;  // [T, W], rotated
  at::Tensor attention;
  std::vector<at::Tensor> attention_kept;
  at::Tensor attention_rows;    // [R, heads * E]: input of `out`
  at::Tensor attention_output;  // [R, D]: before its norm, where there is one
  nn::NormTrace attention_post_norm;
  at::Tensor middle;  // [R, D]
  nn::NormTrace mlp_norm;
  at::Tensor mlp_input;
  nn::MlpTrace mlp;
  at::Tensor mlp_output;  // [R, D]: before its norm, where there is one
  nn::NormTrace mlp_post_norm;
};

/** The low-rank updates of the linear layers of one block. */
struct BlockModules {
  std::vector<nn::LowRank> qkv, out, up, down;
};

/** Adapter of one block and its dropout seed in one forward; none by default. */
struct BlockAdapter {
  const BlockModules* modules = nullptr;
  uint64_t dropout_seed = 0;
  const device::Kernels* kernels = nullptr;

  nn::LinearAdapter of(std::vector<nn::LowRank> BlockModules::* linear) const {
    return modules == nullptr ? nn::LinearAdapter{}
                              : nn::LinearAdapter{&(modules->*linear), dropout_seed, kernels};
  }
  nn::MlpAdapter mlp() const { return {of(&BlockModules::up), of(&BlockModules::down)}; }
};

/** x + s post(attention(norm(x))), then x + s post(mlp(norm(x))): each norm, and the multiplier s
 * of what is added, only where the layer has it. */
struct Block {
  LayerSpec spec;
  std::optional<nn::Norm> attention_norm, mlp_norm;
  std::optional<nn::Norm> attention_post_norm, mlp_post_norm;
  std::optional<nn::Norm> q_norm, k_norm;
  nn::Linear qkv, out;
  nn::Mlp mlp;
  nn::Rotary* rotary = nullptr;
  const device::Kernels* kernels = nullptr;

  device::AttentionShape shape() const {
    return {spec.heads, spec.kv_heads, spec.head_dim, spec.window, spec.attention_scale};
  }

  /**
   * [T, D] -> [T, D], or [R, D] where `rows` selects the R tokens to return: keys and values are
   * computed for all tokens, the rest only for those. With a `cache`, keys and values of
   * document d are copied to its row d.
   */
  at::Tensor forward(const at::Tensor& x_TD, const Tokens& tokens, const at::Tensor& rows,
                     const BlockAdapter& adapter, BlockTrace& trace, at::Tensor* cache,
                     const core::Cancel& cancel) const;
  /** dy is [T, D], or [R, D] with `rows`; returns dx [T, D]. */
  at::Tensor backward(const at::Tensor& dy, const Tokens& tokens, const at::Tensor& rows,
                      const BlockAdapter& adapter, const BlockTrace& trace,
                      const core::Cancel& cancel) const;
  /** Decodes one new token a row, x [B, D]; writes keys and values at its position of the cache. */
  at::Tensor decode(const at::Tensor& x_BD, const device::DecodeRows& rows,
                    const BlockAdapter& adapter, at::Tensor& cache) const;

 private:
  /** Norms and rotates the queries and keys of qkv [T, W] in place. */
  void prepare(const at::Tensor& qkv_TW, const at::Tensor& positions, BlockTrace& trace) const;
  /** Branch output as added to the residual stream; computed in place where possible. */
  at::Tensor contribution(at::Tensor output, const std::optional<nn::Norm>& norm, at::Tensor& kept,
                          nn::NormTrace& trace) const;
  /** The gradient of the branch's output. */
  at::Tensor contribution_backward(const at::Tensor& dy, const std::optional<nn::Norm>& norm,
                                   const at::Tensor& kept, const nn::NormTrace& trace) const;
};

}  // namespace posttrain::models
