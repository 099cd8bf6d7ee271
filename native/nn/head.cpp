#include "nn/head.h"

#include "core/matmul.h"

namespace posttrain::nn {

// c tanh(z / c) / t = (c / t) tanh((z / t) / (c / t))
Head Head::at_temperature(double temperature) const {
  auto head = *this;
  if (soft_cap.has_value() && temperature != 1) head.soft_cap = *soft_cap / temperature;
  return head;
}

at::Tensor Head::logits(const at::Tensor& hidden_RD, at::Tensor* tanh) const {
  auto product_RV = core::product(hidden_RD, weight->value.t());
  finish(product_RV, tanh);
  return product_RV;
}

void Head::finish(at::Tensor& product_RV, at::Tensor* tanh) const {
  if (multiplier.has_value()) product_RV.mul_(*multiplier);
  if (!soft_cap.has_value()) return;
  product_RV.div_(*soft_cap).tanh_();
  if (tanh != nullptr) *tanh = product_RV.clone();
  product_RV.mul_(*soft_cap);
}

void Head::finish_backward(at::Tensor& dlogits_RV, const at::Tensor& tanh_RV) const {
  if (soft_cap.has_value()) dlogits_RV.copy_(at::tanh_backward(dlogits_RV, tanh_RV));
  if (multiplier.has_value()) dlogits_RV.mul_(*multiplier);
}

}  // namespace posttrain::nn
