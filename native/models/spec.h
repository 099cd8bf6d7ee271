#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nn/mlp.h"
#include "nn/norm.h"
#include "nn/rotary.h"

namespace posttrain::models {

/** Fields of lib/addon/spec.ts, which documents them. */
struct NormSpec {
  nn::NormKind kind = nn::NormKind::rms;
  double eps = 1e-5;
  bool offset = false;
};

struct LayerSpec {
  int64_t heads = 1;
  int64_t kv_heads = 1;
  int64_t head_dim = 1;
  bool qkv_bias = false;
  bool out_bias = false;
  bool qk_norm = false;
  bool pre_norm = true;
  bool post_norm = false;
  std::optional<int64_t> window;
  std::optional<nn::RopeSpec> rope;
  std::optional<double> attention_scale;
  std::optional<double> residual_multiplier;
  nn::MlpKind mlp_kind = nn::MlpKind::gated;
  nn::Activation activation = nn::Activation::silu;
  int64_t intermediate_size = 1;
  bool mlp_bias = false;
};

struct DecoderSpec {
  int64_t vocab_size = 1;
  int64_t hidden_size = 1;
  std::optional<int64_t> learned_positions;
  std::optional<int64_t> padding_id;
  std::optional<double> embedding_multiplier;
  std::optional<double> logit_multiplier;
  std::optional<double> logit_soft_cap;
  NormSpec norm;
  bool tied = true;
  std::vector<LayerSpec> layers;
};

}  // namespace posttrain::models
