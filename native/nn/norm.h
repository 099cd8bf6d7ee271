#pragma once
#include <string>

#include "device/kernels.h"
#include "nn/parameter.h"

namespace posttrain::nn {

/** Kept by a norm for its backward: one number per row. */
struct NormTrace {
  at::Tensor mean_T;  // layer norm only
  at::Tensor rstd_T;
};

enum class NormKind { rms, layer };
NormKind norm_kind_of(const std::string& name);

/**
 * RMSNorm: y = x / sqrt(mean(x^2) + eps) * w (Zhang & Sennrich 2019, arXiv 1910.07467), or
 * LayerNorm with bias (Ba et al. 2016, arXiv 1607.06450). Rows [T, D]; statistics in float32
 * (float64 for float64 rows).
 *
 * An RMSNorm with `offset` multiplies by 1 + w (gemma). As in transformers its product is taken
 * before the rows go back to half precision; without an offset it is taken after.
 */
struct Norm {
  NormKind kind = NormKind::rms;
  double eps = 1e-5;
  bool offset = false;
  Parameter* weight = nullptr;
  Parameter* bias = nullptr;
  const device::Kernels* kernels = nullptr;

  at::Tensor forward(const at::Tensor& x_TD, NormTrace& trace) const;
  /** Adds dw and db to the gradient buffers; returns dx [T, D]. */
  at::Tensor backward(const at::Tensor& x_TD, const at::Tensor& dy_TD,
                      const NormTrace& trace) const;
};

}  // namespace posttrain::nn
