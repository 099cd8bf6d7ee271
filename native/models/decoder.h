#pragma once
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "models/layers.h"

namespace posttrain::models {

/** Kept by the forward of the whole decoder for its backward. */
struct DecoderTrace {
  bool checkpointing = false;
  /** Full traces, or with activation checkpointing only each block's input. */
  std::vector<BlockTrace> blocks;
  at::Tensor last;  // [R, D]: before the final norm
  nn::NormTrace norm;
};

class Adapter;

/** Adapter and dropout seed applied to the base in one forward; none by default. */
struct ActiveAdapter {
  const Adapter* adapter = nullptr;
  /** LoRA dropout is on only with a seed other than 0. */
  uint64_t dropout_seed = 0;

  /** The layers with its copies in place; null without an adapter. */
  const Layers* layers() const;
  BlockAdapter block(size_t i) const;
  /** Low-rank updates of the token embedding and of learned positions. */
  const std::vector<nn::LowRank>& embed() const;
  const std::vector<nn::LowRank>& positions() const;
  nn::LinearAdapter head() const;
};

/**
 * The one decoder: token embedding (and learned positions), blocks whose options are per layer,
 * final norm. Its output projection is `head()`, used by the losses and the sampler only for the
 * rows they need.
 *
 * Gradients are computed without autograd, block by block, into persistent buffers: nothing is
 * kept beyond a call, a job can be cancelled between layers, and a frozen parameter costs no
 * gradient.
 */
class Decoder {
 public:
  /** `coded`: the linear layers of the blocks are in 4 bits, and all parameters frozen. */
  Decoder(DecoderSpec spec, at::Device device, at::ScalarType dtype, bool coded);

  const DecoderSpec& spec() const { return spec_; }
  at::Device device() const { return device_; }
  at::ScalarType dtype() const { return dtype_; }
  bool coded() const { return coded_; }
  const device::Kernels& kernels() const { return kernels_; }
  std::deque<nn::Parameter>& parameters() { return parameters_; }
  /** A tied head.weight is embed.weight. Throws for an unknown name. */
  nn::Parameter& parameter(const std::string& name);
  /** The base's own layers. */
  const Layers& layers() const { return layers_; }
  /** Tied heads use the token embedding as their weight. */
  nn::Head head(const ActiveAdapter& adapter) const {
    return {layers_of(adapter).head, spec_.logit_multiplier, spec_.logit_soft_cap, adapter.head(),
            &kernels_};
  }
  /** Gives a tied head a weight of its own, a copy of the token embedding. */
  void untie();

  /** Takes the values of a decoder with the same parameters. */
  void copy_from(Decoder& other);
  /** Normal(0, std) for matrices, times residual_scale for those that write into the residual
   * stream; zero biases; norms that multiply by 1. */
  void initialize(uint64_t seed, double std, double residual_scale);

  /** Final normed hidden states of the tokens in `rows` (all where undefined), [R, D]. `trace` and
   * `caches` may be null. */
  at::Tensor forward(const Tokens& tokens, const at::Tensor& rows, const ActiveAdapter& adapter,
                     DecoderTrace* trace, std::vector<at::Tensor>* caches,
                     const core::Cancel& cancel);
  /** Adds every trainable parameter's gradient, except for the head's use of its weight, from that
   * of the hidden states. */
  void backward(const Tokens& tokens, const at::Tensor& rows, const ActiveAdapter& adapter,
                const at::Tensor& dhidden_RD, DecoderTrace& trace, const core::Cancel& cancel);
  /** Final normed hidden states [B, D] of one new token a row. */
  at::Tensor decode(const at::Tensor& ids_B, const device::DecodeRows& rows,
                    const ActiveAdapter& adapter, std::vector<at::Tensor>& caches,
                    const core::Cancel& cancel);

  /** Freezes all parameters until every adapter that froze them is released. */
  void freeze();
  void thaw();
  /** The linear layer `qkv`, `out`, `up` or `down` of a block. Throws for other names. */
  nn::Linear& linear(size_t block, const std::string& name);

 private:
  void add_block(size_t i);
  nn::Parameter* add(const std::string& name, at::IntArrayRef shape, nn::Init init,
                     bool coded = false);
  nn::Linear add_linear(const std::string& name, int64_t out, int64_t in, bool bias,
                        nn::Init init = nn::Init::matrix);
  nn::Norm add_norm(const std::string& name, const NormSpec& norm, int64_t width);
  nn::Rotary* rotary_of(const LayerSpec& layer);
  const Layers& layers_of(const ActiveAdapter& adapter) const;
  at::Tensor embed(const at::Tensor& ids, const at::Tensor& positions,
                   const ActiveAdapter& adapter) const;
  void embed_backward(const Tokens& tokens, at::Tensor& dx_TD, const ActiveAdapter& adapter) const;
  void reserve_positions(int64_t positions);

  /** Adapters that freeze the parameters. */
  int64_t adapters_ = 0;
  DecoderSpec spec_;
  at::Device device_;
  at::ScalarType dtype_;
  bool coded_;
  const device::Kernels kernels_;
  std::deque<nn::Parameter> parameters_;
  std::unordered_map<std::string, size_t> index_;
  Layers layers_;
  /** Rounded to float32 and then to the model's dtype, as gemma's buffer is in transformers. */
  std::optional<double> embedding_multiplier_;
  struct NamedRotary {
    nn::RopeSpec spec;
    int64_t head_dim;
    std::unique_ptr<nn::Rotary> rotary;
  };
  std::vector<NamedRotary> rotaries_;
};

}  // namespace posttrain::models
