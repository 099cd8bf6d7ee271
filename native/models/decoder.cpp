#include "models/decoder.h"

#include <ATen/Dispatch.h>

#include "core/philox.h"
#include "models/adapter.h"
#include "nn/embedding.h"

namespace posttrain::models {

Decoder::Decoder(DecoderSpec spec, at::Device device, at::ScalarType dtype)
    : spec_(std::move(spec)), device_(device), dtype_(dtype) {
  const int64_t width = spec_.hidden_size;
  embed_ = add("embed.weight", {spec_.vocab_size, width});
  if (spec_.learned_positions > 0)
    positions_ = add("positions.weight", {spec_.learned_positions, width});
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    const auto& layer = spec_.layers[i];
    const auto at = "layers." + std::to_string(i) + ".";
    const int64_t q_width = layer.heads * layer.head_dim,
                  kv_width = layer.kv_heads * layer.head_dim;
    auto& block = blocks_.emplace_back();
    block.spec = layer;
    block.attention_norm = add_norm(at + "attentionNorm", spec_.norm, width);
    block.qkv = add_linear(at + "qkv", q_width + 2 * kv_width, width, layer.qkv_bias);
    if (layer.qk_norm) {
      const NormSpec head_norm{true, spec_.norm.eps};
      block.q_norm = add_norm(at + "qNorm", head_norm, layer.head_dim);
      block.k_norm = add_norm(at + "kNorm", head_norm, layer.head_dim);
    }
    block.out = add_linear(at + "out", width, q_width, layer.out_bias);
    block.mlp_norm = add_norm(at + "mlpNorm", spec_.norm, width);
    block.mlp.gated = layer.gated;
    block.mlp.activation = layer.activation;
    block.mlp.up = add_linear(at + "up", layer.intermediate_size * (layer.gated ? 2 : 1), width,
                              layer.mlp_bias);
    block.mlp.down = add_linear(at + "down", width, layer.intermediate_size, layer.mlp_bias);
    block.rotary = rotary_of(layer);
  }
  norm_ = add_norm("norm", spec_.norm, width);
  if (!spec_.tied) add("head.weight", {spec_.vocab_size, width});
}

nn::Parameter* Decoder::add(const std::string& name, at::IntArrayRef shape) {
  auto& parameter = parameters_.emplace_back();
  parameter.name = name;
  parameter.value = at::zeros(shape, at::TensorOptions().dtype(dtype_).device(device_));
  index_[name] = parameters_.size() - 1;
  return &parameter;
}

nn::Linear Decoder::add_linear(const std::string& name, int64_t out, int64_t in, bool bias) {
  nn::Linear linear;
  linear.weight = add(name + ".weight", {out, in});
  if (bias) linear.bias = add(name + ".bias", {out});
  return linear;
}

nn::Norm Decoder::add_norm(const std::string& name, const NormSpec& norm, int64_t width) {
  nn::Norm result{norm.rms, norm.eps, add(name + ".weight", {width}), nullptr};
  if (!norm.rms) result.bias = add(name + ".bias", {width});
  return result;
}

nn::Rotary* Decoder::rotary_of(const LayerSpec& layer) {
  if (!layer.rope.has_value()) return nullptr;
  for (auto& known : rotaries_) {
    if (known.spec == *layer.rope && known.head_dim == layer.head_dim) return known.rotary.get();
  }
  rotaries_.push_back({*layer.rope, layer.head_dim,
                       std::make_unique<nn::Rotary>(*layer.rope, layer.head_dim, device_, dtype_)});
  return rotaries_.back().rotary.get();
}

nn::Parameter& Decoder::parameter(const std::string& name) {
  const auto found = index_.find(name);
  TORCH_CHECK_VALUE(found != index_.end(), "[decoder] there is no parameter named ", name);
  return parameters_[found->second];
}

void Decoder::initialise(uint64_t seed, double std, double residual_scale) {
  uint32_t stream = 0;
  for (auto& parameter : parameters_) {
    const auto& name = parameter.name;
    const bool bias = name.ends_with(".bias");
    const bool norm = name.find("orm.") != std::string::npos;
    ++stream;
    if (bias) {
      parameter.value.zero_();
    } else if (norm) {
      parameter.value.fill_(1);
    } else {
      const bool residual = name.ends_with(".out.weight") || name.ends_with(".down.weight");
      auto values = at::empty(parameter.value.sizes(), at::kFloat);
      core::fill_normal(values.mutable_data_ptr<float>(), values.numel(), seed, stream);
      parameter.value.copy_(values.mul_(std * (residual ? residual_scale : 1)));
    }
  }
}

void Decoder::reserve_positions(int64_t positions) {
  TORCH_CHECK_VALUE(positions_ == nullptr || positions <= spec_.learned_positions,
                    "[decoder] a document of ", positions, " tokens is longer than the model's ",
                    spec_.learned_positions, " learned positions");
  for (auto& known : rotaries_) known.rotary->reserve(positions);
}

at::Tensor Decoder::embed(const at::Tensor& ids, const at::Tensor& positions) {
  auto x = nn::embedding(*embed_, ids);
  if (positions_ != nullptr) x.add_(nn::embedding(*positions_, positions));
  return x;
}

at::Tensor Decoder::forward(const Tokens& tokens, const at::Tensor& rows, const AdapterPass& pass,
                            DecoderTrace* trace, std::vector<KvCache>* caches,
                            const core::Cancel& cancel) {
  int64_t longest = 0;
  for (size_t d = 0; d + 1 < tokens.offsets.size(); ++d) {
    longest = std::max(longest, tokens.offsets[d + 1] - tokens.offsets[d]);
  }
  reserve_positions(longest);
  auto x = embed(tokens.ids_T, tokens.positions_T);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    cancel.check();
    const bool last = i + 1 == blocks_.size();
    BlockTrace block_trace;
    auto y = blocks_[i].forward(x, tokens, last ? rows : at::Tensor(), pass.block(i), block_trace,
                                caches == nullptr ? nullptr : &(*caches)[i], cancel);
    if (trace != nullptr) {
      if (trace->checkpointing) block_trace = BlockTrace{.input = x};
      trace->blocks.push_back(std::move(block_trace));
    }
    x = y;
  }
  nn::NormTrace norm_trace;
  auto hidden = norm_.forward(x, norm_trace);
  if (trace != nullptr) {
    trace->last = x;
    trace->norm = norm_trace;
  }
  return hidden;
}

void Decoder::backward(const Tokens& tokens, const at::Tensor& rows, const AdapterPass& pass,
                       const at::Tensor& dhidden_RD, DecoderTrace& trace,
                       const core::Cancel& cancel) {
  auto dx = norm_.backward(trace.last, dhidden_RD, trace.norm);
  for (size_t i = blocks_.size(); i-- > 0;) {
    cancel.check();
    const bool last = i + 1 == blocks_.size();
    const auto block_rows = last ? rows : at::Tensor();
    auto& block_trace = trace.blocks[i];
    if (trace.checkpointing) {
      const auto input = block_trace.input;
      blocks_[i].forward(input, tokens, block_rows, pass.block(i), block_trace, nullptr, cancel);
    }
    dx = blocks_[i].backward(dx, tokens, block_rows, pass.block(i), block_trace, cancel);
    block_trace = BlockTrace{};
  }
  nn::embedding_backward(*embed_, tokens.ids_T, dx, spec_.padding_id);
  if (positions_ != nullptr) nn::embedding_backward(*positions_, tokens.positions_T, dx);
}

at::Tensor Decoder::decode(const at::Tensor& ids_B, const std::vector<int64_t>& lengths,
                           const AdapterPass& pass, std::vector<KvCache>& caches,
                           const core::Cancel& cancel) {
  reserve_positions(*std::max_element(lengths.begin(), lengths.end()));
  const auto positions = at::tensor(lengths, at::kLong).sub_(1).to(device_);
  auto x = embed(ids_B, positions);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    cancel.check();
    x = blocks_[i].decode(x, positions, lengths, pass.block(i), caches[i]);
  }
  nn::NormTrace norm_trace;
  return norm_.forward(x, norm_trace);
}

void Decoder::freeze() {
  ++adapters_;
  for (auto& parameter : parameters_) {
    parameter.trainable = false;
    parameter.grad = at::Tensor();
  }
}

void Decoder::thaw() {
  if (--adapters_ > 0) return;
  for (auto& parameter : parameters_) parameter.trainable = true;
}

nn::Linear& Decoder::linear(size_t block, const std::string& name) {
  TORCH_CHECK_VALUE(block < blocks_.size(), "[adapter] there is no layer ", block);
  auto& found = blocks_[block];
  if (name == "qkv") return found.qkv;
  if (name == "out") return found.out;
  if (name == "up") return found.mlp.up;
  if (name == "down") return found.mlp.down;
  TORCH_CHECK_VALUE(false, "[adapter] a layer has no linear layer ", name);
}

}  // namespace posttrain::models
