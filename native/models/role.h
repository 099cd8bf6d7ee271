#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/adapter.h"
#include "models/decoder.h"

namespace posttrain::models {

/**
 * Unit of training, evaluation and sampling: a base, which roles may share, an adapter on it,
 * and besides the base's own language-model head a scalar head `score.weight` [1, D] without a
 * bias.
 */
class Role {
 public:
  explicit Role(std::shared_ptr<Decoder> base) : base(std::move(base)) {}

  std::shared_ptr<Decoder> base;
  /** Null: the base alone. */
  std::shared_ptr<Adapter> adapter;
  /** Set while a backward runs; a failed one leaves it set until zero_grad(). */
  bool gradients_dirty = false;

  /** Adds a scalar head, normal with standard deviation 1 / sqrt(D + 1), or zero without a seed. */
  void add_score(std::optional<uint64_t> seed);
  /** Null without a scalar head. */
  nn::Parameter* score() { return score_.get(); }

  ActiveAdapter active_adapter(uint64_t dropout_seed = 0) const {
    return {adapter.get(), dropout_seed};
  }
  /** Parameter of the base, the adapter or the head. Throws for an unknown name. */
  nn::Parameter& parameter(const std::string& name);
  /** Parameters of the base, then the adapter, then the head. */
  std::vector<nn::Parameter*> parameters();
  void zero_grad();

 private:
  std::unique_ptr<nn::Parameter> score_;
};

}  // namespace posttrain::models
