#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "models/role.h"
#include "optim/blockwise.h"
#include "optim/half_moments.h"

namespace posttrain::optim {

enum class Moments {
  /** float32, float64 for a model in it. */
  exact,
  bfloat16,
  /** Those of matrices and vectors of at least 4,096 values in 8 bits, in blocks; those of
   * embeddings stay in float32. */
  bits8,
};

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
  /** Decays only parameters of two or more dimensions; otherwise all. */
  bool decay_matrices_only = false;
  Moments moments = Moments::exact;
};

struct StepResult {
  double grad_norm;
  bool applied;
};

/**
 * AdamW with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101) over the trainable
 * parameters of a role, fused. Half-precision parameters have float32 master weights.
 */
class AdamW {
 public:
  AdamW(std::shared_ptr<models::Role> role, const AdamWOptions& options);

  /**
   * Clips the gradients to a global L2 norm of max_grad_norm (0: off), then updates. A non-finite
   * norm changes nothing, neither moments nor step count. Throws while the gradients are
   * dirty; if the update itself fails, every later call throws.
   */
  StepResult step(double learning_rate, double max_grad_norm);

  /** Moments, master weights and the step count; the caller renames the file. */
  void save(const std::string& path, const core::Cancel& cancel) const;
  /** Loads all or nothing: everything is read and checked before anything changes. */
  void load(const std::string& path, const core::Cancel& cancel);

 private:
  struct Slot {
    nn::Parameter* parameter;
    at::Tensor first, second;  // moments, in bfloat16 too; undefined where they are coded
    CodedState coded_first, coded_second;
    at::Tensor master;  // undefined for parameters of full precision
    bool decays;

    bool exact() const { return first.defined() && first.scalar_type() != at::kBFloat16; }
  };
  void update(const std::vector<size_t>& slots, double learning_rate, double weight_decay,
              const at::Tensor& grad_scale);
  /** Of those whose moments are not exact. */
  void update_rounded(double learning_rate, double grad_scale);
  /** Rounds master weights to the values that compute. */
  void round_masters(const std::vector<size_t>& slots);
  /** Calls visit(name, tensor) for every tensor of the state. */
  template <typename Visit>
  void each_tensor(const Visit& visit) const;

  std::shared_ptr<models::Role> role_;
  /** Keeps the parameters alive if the role changes to another adapter. */
  std::shared_ptr<models::Adapter> adapter_;
  AdamWOptions options_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
  bool broken_ = false;
};

}  // namespace posttrain::optim
