#include "nn/linear.h"

namespace posttrain::nn {

void accumulate_product(at::Tensor& target_MN, const at::Tensor& a_TM, const at::Tensor& b_TN) {
  if (target_MN.scalar_type() == a_TM.scalar_type()) {
    target_MN.addmm_(a_TM.t(), b_TN);
  } else {
    target_MN.add_(at::mm(a_TM.t(), b_TN));
  }
}

at::Tensor Linear::forward(const at::Tensor& x_TI, const LoraPass& lora) const {
  auto y = bias == nullptr ? at::mm(x_TI, weight->value.t())
                           : at::addmm(bias->value, x_TI, weight->value.t());
  lora_forward(y, x_TI, weight->value, bias, lora);
  return y;
}

at::Tensor Linear::backward(const at::Tensor& x_TI, const at::Tensor& dy_TO,
                            const LoraPass& lora) const {
  if (weight->trainable) accumulate_product(weight->gradient(), dy_TO, x_TI);
  if (bias != nullptr && bias->trainable) {
    bias->gradient().add_(at::sum(dy_TO, {0}, false, bias->gradient().scalar_type()));
  }
  auto dx = at::mm(lora_weight_gradient(dy_TO, weight->value, lora), weight->value);
  lora_backward(dx, x_TI, dy_TO, weight->value, lora);
  return dx;
}

}  // namespace posttrain::nn
