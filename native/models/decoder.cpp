#include "models/decoder.h"

#include <ATen/Dispatch.h>
#include <c10/core/DeviceGuard.h>

#include "core/allocator.h"
#include "core/philox.h"
#include "core/transfer.h"
#include "nn/embedding.h"

namespace posttrain::models {

Decoder::Decoder(DecoderSpec spec, at::Device device, at::ScalarType dtype, bool coded)
    : spec_(std::move(spec)),
      device_(device),
      dtype_(dtype),
      coded_(coded),
      kernels_(device::kernels_of(device, dtype)) {
  const int64_t width = spec_.hidden_size;
  layers_.embed = add("embed.weight", {spec_.vocab_size, width}, nn::Init::matrix);
  if (spec_.learned_positions.has_value())
    layers_.positions =
        add("positions.weight", {*spec_.learned_positions, width}, nn::Init::matrix);
  for (size_t i = 0; i < spec_.layers.size(); ++i) add_block(i);
  layers_.norm = add_norm("norm", spec_.norm, width);
  layers_.head =
      spec_.tied ? layers_.embed : add("head.weight", {spec_.vocab_size, width}, nn::Init::matrix);
  if (spec_.embedding_multiplier.has_value()) {
    embedding_multiplier_ =
        core::number_of(at::scalar_tensor(*spec_.embedding_multiplier, at::kFloat).to(dtype_));
  }
  if (coded_) freeze();
}

void Decoder::add_block(size_t i) {
  const auto& layer = spec_.layers[i];
  const auto at = "layers." + std::to_string(i) + ".";
  const int64_t width = spec_.hidden_size, q_width = layer.heads * layer.head_dim,
                kv_width = layer.kv_heads * layer.head_dim;
  auto& block = layers_.blocks.emplace_back();
  block.spec = layer;
  block.kernels = &kernels_;
  if (layer.pre_norm) block.attention_norm = add_norm(at + "attentionNorm", spec_.norm, width);
  block.qkv = add_linear(at + "qkv", q_width + 2 * kv_width, width, layer.qkv_bias);
  if (layer.qk_norm) {
    const NormSpec head_norm{nn::NormKind::rms, spec_.norm.eps, spec_.norm.offset};
    block.q_norm = add_norm(at + "qNorm", head_norm, layer.head_dim);
    block.k_norm = add_norm(at + "kNorm", head_norm, layer.head_dim);
  }
  block.out = add_linear(at + "out", width, q_width, layer.out_bias, nn::Init::residual);
  if (layer.post_norm)
    block.attention_post_norm = add_norm(at + "attentionPostNorm", spec_.norm, width);
  if (layer.pre_norm) block.mlp_norm = add_norm(at + "mlpNorm", spec_.norm, width);
  block.mlp.kernels = &kernels_;
  block.mlp.kind = layer.mlp_kind;
  block.mlp.activation = layer.activation;
  block.mlp.up = add_linear(
      at + "up", layer.intermediate_size * (layer.mlp_kind == nn::MlpKind::gated ? 2 : 1), width,
      layer.mlp_bias);
  block.mlp.down =
      add_linear(at + "down", width, layer.intermediate_size, layer.mlp_bias, nn::Init::residual);
  if (layer.post_norm) block.mlp_post_norm = add_norm(at + "mlpPostNorm", spec_.norm, width);
  block.rotary = rotary_of(layer);
}

nn::Parameter* Decoder::add(const std::string& name, at::IntArrayRef shape, nn::Init init,
                            bool coded) {
  auto& parameter = parameters_.emplace_back();
  parameter.name = name;
  const auto options = at::TensorOptions().dtype(dtype_).device(device_);
  if (coded) {
    parameter.coded = std::make_shared<nn::CodedWeight>(shape[0], shape[1], options, &kernels_);
  } else {
    parameter.value = at::empty(shape, options);
    core::use_large_pages(parameter.value.const_data_ptr());
  }
  parameter.init = init;
  index_[name] = parameters_.size() - 1;
  return &parameter;
}

nn::Linear Decoder::add_linear(const std::string& name, int64_t out, int64_t in, bool bias,
                               nn::Init init) {
  nn::Linear linear;
  linear.weight = add(name + ".weight", {out, in}, init, coded_);
  if (bias) linear.bias = add(name + ".bias", {out}, nn::Init::zero);
  return linear;
}

nn::Norm Decoder::add_norm(const std::string& name, const NormSpec& norm, int64_t width) {
  nn::Norm result{norm.kind, norm.eps, norm.offset};
  result.kernels = &kernels_;
  result.weight = add(name + ".weight", {width}, norm.offset ? nn::Init::zero : nn::Init::one);
  if (norm.kind == nn::NormKind::layer) result.bias = add(name + ".bias", {width}, nn::Init::zero);
  return result;
}

nn::Rotary* Decoder::rotary_of(const LayerSpec& layer) {
  if (!layer.rope.has_value()) return nullptr;
  for (auto& known : rotaries_) {
    if (known.spec == *layer.rope && known.head_dim == layer.head_dim) return known.rotary.get();
  }
  rotaries_.push_back(
      {*layer.rope, layer.head_dim,
       std::make_unique<nn::Rotary>(*layer.rope, layer.head_dim, device_, dtype_, &kernels_)});
  return rotaries_.back().rotary.get();
}

nn::Parameter& Decoder::parameter(const std::string& name) {
  if (name == "head.weight") return *layers_.head;
  const auto found = index_.find(name);
  TORCH_CHECK_VALUE(found != index_.end(), "[decoder] no parameter is named ", name);
  return parameters_[found->second];
}

void Decoder::copy_from(Decoder& other) {
  for (auto& parameter : parameters_) {
    const auto& source = other.parameter(parameter.name);
    if (parameter.coded == nullptr) {
      parameter.value.copy_(source.value);
    } else {
      *parameter.coded = source.coded->on(&kernels_);
    }
  }
}

void Decoder::initialize(uint64_t seed, double std, double residual_scale) {
  uint32_t stream = 0;
  for (auto& parameter : parameters_) {
    ++stream;
    switch (parameter.init) {
      case nn::Init::zero:
        parameter.value.zero_();
        break;
      case nn::Init::one:
        parameter.value.fill_(1);
        break;
      case nn::Init::matrix:
      case nn::Init::residual: {
        const bool residual = parameter.init == nn::Init::residual;
        auto values = at::empty(parameter.sizes(), at::kFloat);
        core::fill_normal(values.mutable_data_ptr<float>(), values.numel(), seed, stream);
        values.mul_(std * (residual ? residual_scale : 1));
        if (parameter.coded == nullptr) {
          parameter.value.copy_(values);
        } else {
          parameter.coded->set(0, device::nf4_of(values));
        }
        break;
      }
    }
  }
}

void Decoder::reserve_positions(int64_t positions) {
  TORCH_CHECK_VALUE(layers_.positions == nullptr || positions <= *spec_.learned_positions,
                    "[decoder] a document of ", positions, " tokens is longer than the model's ",
                    *spec_.learned_positions, " learned positions");
  for (auto& known : rotaries_) known.rotary->reserve(positions);
}

const Layers& Decoder::layers_of(const ActiveAdapter& adapter) const {
  const auto* own = adapter.layers();
  return own == nullptr ? layers_ : *own;
}

at::Tensor Decoder::embed(const at::Tensor& ids, const at::Tensor& positions,
                          const ActiveAdapter& adapter) const {
  const auto& layers = layers_of(adapter);
  auto x = nn::embedding(*layers.embed, ids);
  nn::embedding_update(x, *layers.embed, ids, adapter.embed());
  if (embedding_multiplier_.has_value()) x.mul_(*embedding_multiplier_);
  if (layers.positions == nullptr) return x;
  auto at_positions = nn::embedding(*layers.positions, positions);
  nn::embedding_update(at_positions, *layers.positions, positions, adapter.positions());
  return x.add_(at_positions);
}

void Decoder::embed_backward(const Tokens& tokens, at::Tensor& dx_TD,
                             const ActiveAdapter& adapter) const {
  const auto& layers = layers_of(adapter);
  if (layers.positions != nullptr) {
    nn::embedding_backward(kernels_, *layers.positions, tokens.positions_T, dx_TD);
    nn::embedding_update_backward(kernels_, *layers.positions, tokens.positions_T, dx_TD,
                                  adapter.positions());
  }
  if (embedding_multiplier_.has_value()) dx_TD.mul_(*embedding_multiplier_);
  nn::embedding_backward(kernels_, *layers.embed, tokens.ids_T, dx_TD, spec_.padding_id);
  nn::embedding_update_backward(kernels_, *layers.embed, tokens.ids_T, dx_TD, adapter.embed(),
                                spec_.padding_id);
}

at::Tensor Decoder::forward(const Tokens& tokens, const at::Tensor& rows,
                            const ActiveAdapter& adapter, DecoderTrace* trace,
                            std::vector<at::Tensor>* caches, const core::Cancel& cancel) {
  const c10::OptionalDeviceGuard guard(device_);
  reserve_positions(tokens.documents.longest);
  const auto& layers = layers_of(adapter);
  auto x = embed(tokens.ids_T, tokens.positions_T, adapter);
  for (size_t i = 0; i < layers.blocks.size(); ++i) {
    cancel.check();
    const bool last = i + 1 == layers.blocks.size();
    BlockTrace block_trace;
    auto y =
        layers.blocks[i].forward(x, tokens, last ? rows : at::Tensor(), adapter.block(i),
                                 block_trace, caches == nullptr ? nullptr : &(*caches)[i], cancel);
    if (trace != nullptr) {
      if (trace->checkpointing) block_trace = BlockTrace{.input = x};
      trace->blocks.push_back(std::move(block_trace));
    }
    x = y;
  }
  nn::NormTrace norm_trace;
  auto hidden = layers.norm.forward(x, norm_trace);
  if (trace != nullptr) {
    trace->last = x;
    trace->norm = norm_trace;
  }
  return hidden;
}

void Decoder::backward(const Tokens& tokens, const at::Tensor& rows, const ActiveAdapter& adapter,
                       const at::Tensor& dhidden_RD, DecoderTrace& trace,
                       const core::Cancel& cancel) {
  const c10::OptionalDeviceGuard guard(device_);
  const auto& layers = layers_of(adapter);
  auto dx = layers.norm.backward(trace.last, dhidden_RD, trace.norm);
  for (size_t i = layers.blocks.size(); i-- > 0;) {
    cancel.check();
    const bool last = i + 1 == layers.blocks.size();
    const auto block_rows = last ? rows : at::Tensor();
    const auto& block = layers.blocks[i];
    auto& block_trace = trace.blocks[i];
    if (trace.checkpointing) {
      const auto input = block_trace.input;
      block.forward(input, tokens, block_rows, adapter.block(i), block_trace, nullptr, cancel);
    }
    dx = block.backward(dx, tokens, block_rows, adapter.block(i), block_trace, cancel);
    block_trace = BlockTrace{};
  }
  embed_backward(tokens, dx, adapter);
}

at::Tensor Decoder::decode(const at::Tensor& ids_B, const device::DecodeRows& rows,
                           const ActiveAdapter& adapter, std::vector<at::Tensor>& caches,
                           const core::Cancel& cancel) {
  const c10::OptionalDeviceGuard guard(device_);
  reserve_positions(rows.longest);
  const auto& layers = layers_of(adapter);
  auto x = embed(ids_B, rows.positions_B, adapter);
  for (size_t i = 0; i < layers.blocks.size(); ++i) {
    cancel.check();
    x = layers.blocks[i].decode(x, rows, adapter.block(i), caches[i]);
  }
  nn::NormTrace norm_trace;
  return layers.norm.forward(x, norm_trace);
}

void Decoder::untie() {
  if (!spec_.tied) return;
  auto* head = add("head.weight", {spec_.vocab_size, spec_.hidden_size}, nn::Init::matrix);
  head->trainable = layers_.embed->trainable;
  head->value.copy_(layers_.embed->value);
  layers_.head = head;
  spec_.tied = false;
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
  TORCH_CHECK_VALUE(block < layers_.blocks.size(), "[adapter] the model has no layer ", block);
  auto& found = layers_.blocks[block];
  if (name == "qkv") return found.qkv;
  if (name == "out") return found.out;
  if (name == "up") return found.mlp.up;
  if (name == "down") return found.mlp.down;
  TORCH_CHECK_VALUE(false, "[adapter] a layer has no linear layer ", name);
}

}  // namespace posttrain::models
