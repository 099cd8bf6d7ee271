#pragma once
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "models/decoder.h"

namespace posttrain::models {

/** One module by its name in adapter files, and its place in the decoder. */
struct AdapterModule {
  /** Such as model.layers.0.self_attn.q_proj. */
  std::string name;
  int64_t layer = 0;
  /** qkv, out, up or down. */
  std::string linear;
  int64_t first_row = 0;
  /** -1: all rows. */
  int64_t rows = -1;
};

struct AdapterSpec {
  std::vector<AdapterModule> modules;
  int64_t rank = 16;
  /** alpha / rank, or alpha / sqrt(rank) for rsLoRA (arXiv 2312.03732). */
  double scale = 2;
  double dropout = 0;
  bool dora = false;
};

/**
 * Low-rank updates of some linear layers of one base. Parameters are `<module>.lora_A` [r, in],
 * `<module>.lora_B` [out, r] and, for DoRA, `<module>.lora_magnitude_vector` [out]; float32,
 * float64 on a float64 base. The base is frozen while
 * it has an adapter.
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
  const BlockModules& block(size_t i) const { return blocks_[i]; }
  const std::shared_ptr<Decoder>& base() const { return base_; }

  /** A Kaiming-uniform (a = sqrt 5), B zero, magnitudes the row norms of the base. */
  void initialize(uint64_t seed);
  /** Copies the values of an adapter with the same modules. */
  void copy_from(Adapter& other);
  /** Adds the updates to the weights of the base, computed in float32. */
  void merge_into_base();

 private:
  std::shared_ptr<Decoder> base_;
  AdapterSpec spec_;
  std::deque<nn::Parameter> parameters_;
  std::unordered_map<std::string, size_t> index_;
  std::vector<BlockModules> blocks_;
};

}  // namespace posttrain::models
