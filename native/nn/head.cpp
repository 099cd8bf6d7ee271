#include "nn/head.h"

#include "core/matmul.h"

namespace posttrain::nn {

// c tanh(z / c) / t = (c / t) tanh((z / t) / (c / t))
Head Head::at_temperature(double of_logits) const {
  auto head = *this;
  head.temperature = of_logits;
  if (soft_cap.has_value() && of_logits != 1) head.soft_cap = *soft_cap / of_logits;
  return head;
}

at::Tensor Head::logits(const at::Tensor& hidden_RD) const {
  auto logits_RV = at::empty({hidden_RD.size(0), weight->value.size(0)},
                             hidden_RD.options().dtype(device::wide_type(hidden_RD)));
  HeadPass(*this, hidden_RD).logits(logits_RV, 0, hidden_RD.size(0), nullptr);
  return logits_RV;
}

at::Tensor Head::decode(const at::Tensor& hidden_RD) const {
  // The logits of half precision are float32 from the product on.
  if (at::isReducedFloatingType(hidden_RD.scalar_type())) return logits(hidden_RD);
  auto logits_RV = core::product_of_few(hidden_RD, weight->value);
  HeadPass(*this, hidden_RD).complete(logits_RV, 0, hidden_RD.size(0), nullptr);
  return logits_RV;
}

HeadPass::HeadPass(const Head& head, const at::Tensor& hidden_RD)
    : head_(head), hidden_RD_(hidden_RD) {
  if (head.temperature != 1) {
    // A quotient in half precision would be rounded: the float32 logits are divided instead, as
    // by the sampler.
    if (at::isReducedFloatingType(hidden_RD.scalar_type()))
      scale_ = 1 / head.temperature;
    else
      hidden_RD_ = hidden_RD / head.temperature;
  }
  if (head.adapter.empty()) return;
  for (const auto& module : *head.adapter.modules) {
    Update update{};
    update.module = &module;
    update.input_RD = low_rank_input(hidden_RD_, module, head.adapter, &update.mask);
    update.scale = scale_of(module, head.adapter, update.input_RD.scalar_type());
    update.low_RK = core::product(update.input_RD, module.a->value.t());
    if (module.magnitude != nullptr)
      update.ratio_V = magnitude_ratio(head.weight->value, module, &update.norms_V);
    updates_.push_back(std::move(update));
  }
}

void HeadPass::logits(at::Tensor& logits_CV, int64_t from, int64_t count, at::Tensor* tanh) {
  core::multiply(logits_CV, hidden_RD_.narrow(0, from, count), head_.weight->value.t());
  complete(logits_CV, from, count, tanh);
}

void HeadPass::complete(at::Tensor& logits_CV, int64_t from, int64_t count, at::Tensor* tanh) {
  for (const auto& update : updates_) {
    const auto& module = *update.module;
    core::add_product(logits_CV, update.low_RK.narrow(0, from, count), module.b->value.t(),
                      update.scale);
    if (update.ratio_V.defined()) logits_CV.mul_(update.ratio_V);
  }
  if (scale_ != 1) logits_CV.mul_(scale_);
  if (head_.multiplier.has_value()) logits_CV.mul_(*head_.multiplier);
  if (!head_.soft_cap.has_value()) return;
  logits_CV.div_(*head_.soft_cap).tanh_();
  if (tanh != nullptr) *tanh = logits_CV.clone();
  logits_CV.mul_(*head_.soft_cap);
}

void HeadPass::backward(at::Tensor& dlogits_CV, int64_t from, int64_t count, const at::Tensor& tanh,
                        at::Tensor& dhidden_RD) {
  const auto hidden_CD = hidden_RD_.narrow(0, from, count);
  if (head_.soft_cap.has_value()) dlogits_CV.copy_(at::tanh_backward(dlogits_CV, tanh));
  if (head_.multiplier.has_value()) dlogits_CV.mul_(*head_.multiplier);
  for (auto& update : updates_) {
    const auto& module = *update.module;
    const auto& b = module.b->value;
    const auto low_CK = update.low_RK.narrow(0, from, count);
    if (update.ratio_V.defined()) {
      auto wide_CV = widened(dlogits_CV, module);
      if (module.magnitude->trainable) {
        auto rows_CV = at::mm(widened(hidden_CD, module), widened(head_.weight->value, module).t());
        rows_CV = at::addmm(rows_CV, low_CK, b.t(), 1, update.scale);
        module.magnitude->gradient().add_((wide_CV * rows_CV).sum(0) / update.norms_V, scale_);
      }
      dlogits_CV.mul_(update.ratio_V);
    }
    if (!update.dlow_RK.defined()) update.dlow_RK = at::zeros_like(update.low_RK);
    const auto wide_CV = widened(dlogits_CV, module);
    update.dlow_RK.narrow(0, from, count).copy_(core::product(wide_CV, b).mul_(update.scale));
    if (module.b->trainable)
      core::add_transposed_product(module.b->gradient(), wide_CV, low_CK, update.scale * scale_);
  }
  auto dhidden_CD = dhidden_RD.narrow(0, from, count);
  core::multiply(dhidden_CD, dlogits_CV, head_.weight->value);
  if (head_.weight->trainable)
    core::add_transposed_product(head_.weight->gradient(), dlogits_CV, hidden_CD, scale_);
}

void HeadPass::finish(at::Tensor& dhidden_RD) {
  for (const auto& update : updates_) {
    if (!update.dlow_RK.defined()) continue;
    const auto& a = update.module->a->value;
    if (update.module->a->trainable)
      core::add_transposed_product(update.module->a->gradient(), update.dlow_RK, update.input_RD,
                                   scale_);
    if (update.mask.defined()) {
      dhidden_RD.add_(core::product(update.dlow_RK, a).mul_(update.mask));
    } else {
      core::add_product(dhidden_RD, update.dlow_RK, a);
    }
  }
  if (head_.temperature != 1) dhidden_RD.div_(head_.temperature);
}

}  // namespace posttrain::nn
