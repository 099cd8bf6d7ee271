#include "nn/norm.h"

#include <ATen/ATen.h>

namespace posttrain::nn {

NormKind norm_kind_of(const std::string& name) {
  if (name == "rms") return NormKind::rms;
  if (name == "layer") return NormKind::layer;
  TORCH_CHECK_VALUE(false, "[decoder] norm.kind must be rms or layer, got ", name);
}

at::Tensor Norm::forward(const at::Tensor& x_TD, NormTrace& trace) const {
  if (kind == NormKind::rms) return kernels->rms({weight->value, eps, offset}, x_TD, trace.rstd_T);
  auto [y, mean, rstd] =
      at::native_layer_norm(x_TD, {x_TD.size(-1)}, weight->value, bias->value, eps);
  trace.mean_T = mean;
  trace.rstd_T = rstd;
  return y;
}

at::Tensor Norm::backward(const at::Tensor& x_TD, const at::Tensor& dy_TD,
                          const NormTrace& trace) const {
  if (kind == NormKind::rms)
    return kernels->rms_backward({weight->value, eps, offset}, x_TD, dy_TD, trace.rstd_T,
                                 weight->trainable ? &weight->gradient() : nullptr);
  auto [dx, dw, db] = at::native_layer_norm_backward(dy_TD, x_TD, {x_TD.size(-1)}, trace.mean_T,
                                                     trace.rstd_T, weight->value, bias->value,
                                                     {true, weight->trainable, bias->trainable});
  if (weight->trainable) weight->gradient().add_(dw);
  if (bias->trainable) bias->gradient().add_(db);
  return dx;
}

}  // namespace posttrain::nn
