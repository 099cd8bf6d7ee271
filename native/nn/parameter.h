#pragma once
#include <ATen/ATen.h>

#include <memory>
#include <string>

#include "nn/coded_weight.h"

namespace posttrain::nn {

/** Initialization of a weight: `residual` matrices write into the residual stream and may be
 * scaled.
 */
enum class Init { matrix, residual, one, zero };

/** A weight and its gradient. Gradients accumulate in persistent buffers. */
struct Parameter {
  std::string name;
  /** In the compute dtype; undefined where the weight is coded. */
  at::Tensor value;
  /** A frozen weight in 4 bits; null: `value` has it. */
  std::shared_ptr<CodedWeight> coded;
  /** Same shape; float32 where the value is half precision. Undefined until the first backward. */
  at::Tensor grad;
  /** float32 values of an adapter, whose rounding is the value; undefined where the value is all.
   * Those of a base are its optimizer's. */
  at::Tensor master;
  bool trainable = true;
  Init init = Init::matrix;

  at::IntArrayRef sizes() const { return coded == nullptr ? value.sizes() : coded->sizes(); }
  /** The value, or a temporary with those of a coded weight. */
  at::Tensor values() const { return coded == nullptr ? value : coded->values(); }
  /** What is trained, saved and set: the master values, else the value. */
  const at::Tensor& exact() const { return master.defined() ? master : value; }
  /** Takes over a change of the exact values. */
  void round() {
    if (master.defined()) value.copy_(master);
  }

  at::ScalarType grad_dtype() const {
    return value.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  }

  /** Gradient buffer, created as zeros at first use. */
  at::Tensor& gradient() {
    if (!grad.defined()) grad = at::zeros(value.sizes(), value.options().dtype(grad_dtype()));
    return grad;
  }
};

}  // namespace posttrain::nn
