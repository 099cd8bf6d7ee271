#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nn/mlp.h"
#include "nn/rotary.h"

namespace posttrain::models {

/** The same fields as lib/addon/addon.ts, where they are documented. */
struct NormSpec {
  bool rms = true;
  double eps = 1e-5;
};

struct LayerSpec {
  int64_t heads = 1;
  int64_t kv_heads = 1;
  int64_t head_dim = 1;
  bool qkv_bias = false;
  bool out_bias = false;
  bool qk_norm = false;
  int64_t window = 0;
  std::optional<nn::RopeSpec> rope;
  bool gated = true;
  nn::Activation activation = nn::Activation::silu;
  int64_t intermediate_size = 1;
  bool mlp_bias = false;
};

struct DecoderSpec {
  int64_t vocab_size = 1;
  int64_t hidden_size = 1;
  int64_t learned_positions = 0;
  int64_t padding_id = -1;
  NormSpec norm;
  bool tied = true;
  std::vector<LayerSpec> layers;
};

}  // namespace posttrain::models
