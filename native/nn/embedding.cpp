#include "nn/embedding.h"

#include <ATen/ATen.h>

#include "core/matmul.h"

namespace posttrain::nn {

at::Tensor embedding(const Parameter& weight, const at::Tensor& ids_T) {
  return weight.value.index_select(0, ids_T);
}

void embedding_backward(const device::Kernels& kernels, Parameter& weight, const at::Tensor& ids_T,
                        const at::Tensor& dy_TD, std::optional<int64_t> padding_id) {
  if (weight.trainable) kernels.add_rows(weight.gradient(), ids_T, dy_TD, padding_id);
}

void embedding_update(at::Tensor& x_TD, const Parameter& weight, const at::Tensor& ids_T,
                      const std::vector<LowRank>& modules) {
  for (const auto& module : modules) {
    const auto low_TR = module.b->value.index_select(0, ids_T);
    if (module.magnitude == nullptr) {
      core::add_product(x_TD, low_TR, module.a->value, module.scale);
      continue;
    }
    at::Tensor norms_D;
    const auto ratio_D = magnitude_ratio(weight.value, module, &norms_D);
    x_TD.copy_(
        at::addmm(widened(x_TD, module), low_TR, module.a->value, 1, module.scale).mul_(ratio_D));
  }
}

void embedding_update_backward(const device::Kernels& kernels, const Parameter& weight,
                               const at::Tensor& ids_T, const at::Tensor& dy_TD,
                               const std::vector<LowRank>& modules,
                               std::optional<int64_t> padding_id) {
  for (const auto& module : modules) {
    const auto low_TR = module.b->value.index_select(0, ids_T);
    auto dx_TD = widened(dy_TD, module);
    if (module.magnitude != nullptr) {
      at::Tensor norms_D;
      const auto ratio_D = magnitude_ratio(weight.value, module, &norms_D);
      if (module.magnitude->trainable) {
        const auto rows_TD = at::addmm(widened(embedding(weight, ids_T), module), low_TR,
                                       module.a->value, 1, module.scale);
        module.magnitude->gradient().add_((dx_TD * rows_TD).sum(0) / norms_D);
      }
      dx_TD = dx_TD * ratio_D;
    }
    embedding_backward(kernels, *module.b, ids_T,
                       core::product(dx_TD, module.a->value.t()).mul_(module.scale), padding_id);
    if (module.a->trainable)
      core::add_transposed_product(module.a->gradient(), low_TR, dx_TD, module.scale);
  }
}

}  // namespace posttrain::nn
