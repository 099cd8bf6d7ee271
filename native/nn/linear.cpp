#include "nn/linear.h"

#include "core/matmul.h"

namespace posttrain::nn {

at::Tensor Linear::forward(const at::Tensor& x_TI, const LinearAdapter& adapter) const {
  if (weight->coded != nullptr) return forward_coded(x_TI, adapter);
  auto y = core::product(x_TI, weight->value.t(), bias == nullptr ? at::Tensor() : bias->value);
  lora_forward(y, x_TI, weight->value, bias, adapter);
  return y;
}

at::Tensor Linear::decode(const at::Tensor& x_BI, const LinearAdapter& adapter) const {
  if (weight->coded != nullptr) return forward_coded(x_BI, adapter);
  auto y = core::product_of_few(x_BI, weight->value, bias == nullptr ? at::Tensor() : bias->value);
  lora_forward(y, x_BI, weight->value, bias, adapter);
  return y;
}

at::Tensor Linear::forward_coded(const at::Tensor& x_TI, const LinearAdapter& adapter) const {
  // Only DoRA reads the weight besides.
  const auto values = reads_weight(adapter) ? weight->values() : at::Tensor();
  auto y = values.defined() ? core::product(x_TI, values.t()) : weight->coded->product(x_TI);
  if (bias != nullptr) y.add_(bias->value);
  lora_forward(y, x_TI, values, bias, adapter);
  return y;
}

at::Tensor Linear::backward(const at::Tensor& x_TI, const at::Tensor& dy_TO,
                            const LinearAdapter& adapter) const {
  if (weight->trainable) core::add_transposed_product(weight->gradient(), dy_TO, x_TI);
  if (bias != nullptr && bias->trainable) {
    bias->gradient().add_(at::sum(dy_TO, {0}, false, bias->gradient().scalar_type()));
  }
  const auto values = weight->values();
  auto dx = core::product(lora_weight_gradient(dy_TO, values, adapter), values);
  lora_backward(dx, x_TI, dy_TO, values, adapter);
  return dx;
}

}  // namespace posttrain::nn
