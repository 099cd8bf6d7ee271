#pragma once
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "models/decoder.h"

namespace posttrain::models {

/** What an initialization took out of the base's weights, which an adapter then updates instead of
 * them: the r largest singular values (PiSSA, arXiv 2404.02948), or the first r columns of a QR
 * decomposition (OLoRA, arXiv 2406.01775). */
enum class Initial { none, pissa, olora };

/** One module by its name in adapter files, and its place in the decoder. */
struct AdapterModule {
  /** Such as model.layers.0.self_attn.q_proj. */
  std::string name;
  int64_t layer = 0;
  /** qkv, out, up or down of a layer; embed, positions or head. */
  std::string linear;
  int64_t first_row = 0;
  /** -1: all rows. */
  int64_t rows = -1;
  int64_t rank = 16;
  /** alpha / rank, or alpha / sqrt(rank) for rsLoRA (arXiv 2312.03732). */
  double scale = 2;
  /** Name of the module whose A and B it uses; empty: its own. */
  std::string shared_with;
  Initial initial = Initial::none;
};

/** A full copy of parameters of the base, which takes their place. */
struct AdapterCopy {
  /** Such as model.embed_tokens.weight. */
  std::string name;
  /** One, or embed.weight and head.weight. */
  std::vector<std::string> parameters;
  int64_t first_row = 0;
  /** -1: all rows. */
  int64_t rows = -1;
  bool trainable = true;
};

struct AdapterSpec {
  std::vector<AdapterModule> modules;
  std::vector<AdapterCopy> copies;
  double dropout = 0;
  bool dora = false;
};

/**
 * Low-rank updates of some layers of one base, and copies of some of its parameters. Parameters
 * are `<module>.lora_A` [r, in], `<module>.lora_B` [out, r] and, for DoRA,
 * `<module>.lora_magnitude_vector` [out]; of an embedding [V, D], whose rows are looked up, A is
 * [r, D], B [V, r] and the magnitudes [D]. They and copies have the dtype of the base; A and B of
 * a base in half precision are roundings of float32 master values, and with DoRA, PiSSA and OLoRA
 * float32 themselves. The base is frozen while it has an adapter.
 */
class Adapter {
 public:
  Adapter(std::shared_ptr<Decoder> base, AdapterSpec spec);
  ~Adapter() { base_->thaw(); }
  Adapter(const Adapter&) = delete;
  Adapter& operator=(const Adapter&) = delete;

  std::deque<nn::Parameter>& parameters() { return parameters_; }
  /** Null for an unknown name. */
  nn::Parameter* find(const std::string& name);
  /** The layers of the base with the copies in place. */
  const Layers& layers() const { return layers_; }
  const BlockModules& block(size_t i) const { return blocks_[i]; }
  const std::vector<nn::LowRank>& embed() const { return embed_; }
  const std::vector<nn::LowRank>& positions() const { return positions_; }
  const std::vector<nn::LowRank>& head() const { return head_; }
  const std::shared_ptr<Decoder>& base() const { return base_; }

  /** B zero, A Kaiming-uniform (a = sqrt 5), of an embedding standard normal; magnitudes the norms
   * of the base. */
  void initialize(uint64_t seed);
  /** Copies the values of an adapter with the same modules. */
  void copy_from(Adapter& other);
  /**
   * Puts copies and updates into the weights of the base, computed in float32. A tied head gets a
   * weight of its own where the adapter gives it another than the embedding, unless nothing reads
   * the head.
   */
  void merge_into_base(bool reads_head);

 private:
  /** `wide`: float32 where the base has half precision. */
  nn::Parameter* add(const std::string& name, at::IntArrayRef shape, bool wide);
  void add_copy(const AdapterCopy& copy);
  void add_module(const AdapterModule& module, uint32_t stream);
  /** The negative of what the initialization took out of the weight. */
  nn::LowRank taken_out(const at::Tensor& weight_OI, const nn::LowRank& module,
                        const AdapterModule& of);
  /** The parameter of this adapter's layers that a module updates. */
  nn::Parameter* weight_of(const AdapterModule& module);
  std::vector<nn::LowRank>& updates_of(const AdapterModule& module);
  bool head_is_embedding() const;

  std::shared_ptr<Decoder> base_;
  AdapterSpec spec_;
  std::deque<nn::Parameter> parameters_;
  /** Whole parameters of which only some rows are trained, and what initializations took out. */
  std::deque<nn::Parameter> kept_;
  std::unordered_map<std::string, size_t> index_;
  Layers layers_;
  std::vector<BlockModules> blocks_;
  std::vector<nn::LowRank> embed_, positions_, head_;
};

}  // namespace posttrain::models
