#include "models/layers.h"

namespace posttrain::models {

void Layers::replace(const nn::Parameter* original, nn::Parameter* copy) {
  const auto exchange = [&](nn::Parameter*& parameter) {
    if (parameter == original) parameter = copy;
  };
  const auto of_linear = [&](nn::Linear& linear) {
    exchange(linear.weight);
    exchange(linear.bias);
  };
  const auto of_norm = [&](nn::Norm& norm) {
    exchange(norm.weight);
    exchange(norm.bias);
  };
  exchange(positions);
  of_norm(norm);
  for (auto& block : blocks) {
    for (auto* linear : {&block.qkv, &block.out, &block.mlp.up, &block.mlp.down})
      of_linear(*linear);
    for (auto* of_block : {&block.attention_norm, &block.mlp_norm, &block.attention_post_norm,
                           &block.mlp_post_norm, &block.q_norm, &block.k_norm}) {
      if (of_block->has_value()) of_norm(**of_block);
    }
  }
}

}  // namespace posttrain::models
