#include "nn/embedding.h"

#include <ATen/Parallel.h>

#include "core/matmul.h"

namespace posttrain::nn {

at::Tensor embedding(const Parameter& weight, const at::Tensor& ids_T) {
  return weight.value.index_select(0, ids_T);
}

void embedding_backward(Parameter& weight, const at::Tensor& ids_T, const at::Tensor& dy_TD,
                        std::optional<int64_t> padding_id) {
  if (!weight.trainable) return;
  auto& grad = weight.gradient();
  if (!grad.is_cpu()) {
    grad.add_(
        at::embedding_dense_backward(dy_TD, ids_T, grad.size(0), padding_id.value_or(-1), false));
    return;
  }
  const auto* ids = ids_T.const_data_ptr<int64_t>();
  const int64_t tokens = ids_T.numel(), width = grad.size(1);
  AT_DISPATCH_FLOATING_TYPES(grad.scalar_type(), "embedding_backward", [&] {
    const auto dy = dy_TD.to(grad.scalar_type()).contiguous();
    const scalar_t* source = dy.const_data_ptr<scalar_t>();
    scalar_t* target = grad.mutable_data_ptr<scalar_t>();
    // Threads share columns, never rows.
    at::parallel_for(0, width, 64, [&](int64_t from, int64_t to) {
      for (int64_t t = 0; t < tokens; ++t) {
        if (padding_id == ids[t]) continue;
        const scalar_t* s = source + t * width;
        scalar_t* d = target + ids[t] * width;
        for (int64_t i = from; i < to; ++i) d[i] += s[i];
      }
    });
  });
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

void embedding_update_backward(const Parameter& weight, const at::Tensor& ids_T,
                               const at::Tensor& dy_TD, const std::vector<LowRank>& modules,
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
    embedding_backward(*module.b, ids_T,
                       core::product(dx_TD, module.a->value.t()).mul_(module.scale), padding_id);
    if (module.a->trainable)
      core::add_transposed_product(module.a->gradient(), low_TR, dx_TD, module.scale);
  }
}

}  // namespace posttrain::nn
