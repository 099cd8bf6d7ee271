#pragma once
#include <optional>

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

  /** The head that gives logits / temperature for hidden states / temperature. */
  Head at_temperature(double temperature) const;
  /** [R, V]. With a soft-cap tanh(z / c), which the gradient needs, is kept in `tanh` unless null.
   */
  at::Tensor logits(const at::Tensor& hidden_RD, at::Tensor* tanh = nullptr) const;
  /** Turns h W^T into logits, in place. */
  void finish(at::Tensor& product_RV, at::Tensor* tanh = nullptr) const;
  /** Turns the gradient of the logits into that of h W^T, in place. */
  void finish_backward(at::Tensor& dlogits_RV, const at::Tensor& tanh_RV) const;
};

}  // namespace posttrain::nn
