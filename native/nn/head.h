#pragma once
#include <optional>
#include <vector>

#include "nn/lora.h"
#include "nn/parameter.h"

namespace posttrain::nn {

/**
 * The output projection of R hidden states to V tokens: z = multiplier * h W^T, and with
 * a soft-cap c (Gemma 2, arXiv 2408.00118, section 2) the logits are c tanh(z / c). W is [V, D].
 */
struct Head {
  Parameter* weight = nullptr;
  std::optional<double> multiplier;
  std::optional<double> soft_cap;
  /** Low-rank updates of W; none by default. */
  LinearAdapter adapter;
  const device::Kernels* kernels = nullptr;
  /** The logits are divided by it. */
  double temperature = 1;

  /** The head whose logits are divided by a temperature. */
  Head at_temperature(double of_logits) const;
  /** [R, V] of a few rows, float32 or float64. */
  at::Tensor logits(const at::Tensor& hidden_RD) const;
  /** The same of rows that are decoded, without a backward. */
  at::Tensor decode(const at::Tensor& hidden_RD) const;
};

/**
 * One pass of a head over R hidden states in chunks of rows, so that [R, V] is never made. What
 * the chunks share is small: [R, r] of each low-rank update, and [V] with DoRA.
 */
class HeadPass {
 public:
  HeadPass(const Head& head, const at::Tensor& hidden_RD);

  /** Writes the logits of `count` rows from `from` on, [count, V], float32 or float64. With a
   * soft-cap tanh(z / c), which the gradient needs, is kept in `tanh` unless null. */
  void logits(at::Tensor& logits_CV, int64_t from, int64_t count, at::Tensor* tanh);
  /** Turns h W^T of those rows into their logits in place. */
  void complete(at::Tensor& logits_CV, int64_t from, int64_t count, at::Tensor* tanh);
  /** Adds the chunk's gradients to the buffers of the weight and its updates and writes its rows
   * of dhidden [R, D]; overwrites the gradient of the logits. */
  void backward(at::Tensor& dlogits_CV, int64_t from, int64_t count, const at::Tensor& tanh,
                at::Tensor& dhidden_RD);
  /** Adds what the updates contribute to dhidden, after the last chunk, and divides it by the
   * temperature. */
  void finish(at::Tensor& dhidden_RD);

 private:
  /** One low-rank update in this pass. */
  struct Update {
    const LowRank* module;
    double scale;
    at::Tensor mask, input_RD;
    at::Tensor low_RK, dlow_RK;   // K: rank
    at::Tensor ratio_V, norms_V;  // DoRA only
  };

  Head head_;
  at::Tensor hidden_RD_;
  /** Factor of the logits that is not in the hidden states. */
  double scale_ = 1;
  std::vector<Update> updates_;
};

}  // namespace posttrain::nn
