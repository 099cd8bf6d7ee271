#include "nn/lora.h"

#include <algorithm>

#include "core/matmul.h"

namespace posttrain::nn {
namespace {

at::Tensor rows_of(const at::Tensor& weight_OI, const LowRank& module) {
  return weight_OI.narrow(0, module.first_row, module.rows);
}

int64_t reduced(const LowRank& module) { return module.of_columns ? 0 : 1; }

}  // namespace

bool reads_weight(const LinearAdapter& adapter) {
  return !adapter.empty() &&
         std::any_of(adapter.modules->begin(), adapter.modules->end(),
                     [](const LowRank& module) { return module.magnitude != nullptr; });
}

at::Tensor widened(const at::Tensor& y, const LowRank& module) {
  return y.to(module.a->value.scalar_type());
}

at::Tensor low_rank_input(const at::Tensor& x_TI, const LowRank& module,
                          const LinearAdapter& adapter, at::Tensor* mask) {
  const auto wide = widened(x_TI, module);
  if (module.dropout == 0 || adapter.dropout_seed == 0) return wide;
  *mask = adapter.kernels->dropout(x_TI, wide.scalar_type(), module.dropout, adapter.dropout_seed,
                                   module.stream);
  return wide * *mask;
}

at::Tensor magnitude_ratio(const at::Tensor& weight_OI, const LowRank& module, at::Tensor* norms) {
  const auto updated = at::addmm(widened(rows_of(weight_OI, module), module), module.b->value,
                                 module.a->value, 1, module.scale);
  *norms = at::linalg_vector_norm(updated, 2, at::IntArrayRef{reduced(module)});
  return module.magnitude->value / *norms;
}

void lora_forward(at::Tensor& y_TO, const at::Tensor& x_TI, const at::Tensor& weight_OI,
                  const Parameter* bias, const LinearAdapter& adapter) {
  if (adapter.empty()) return;
  for (const auto& module : *adapter.modules) {
    at::Tensor mask;
    const auto input = low_rank_input(x_TI, module, adapter, &mask);
    const auto low_TR = core::product(input, module.a->value.t());
    auto y = y_TO.narrow(1, module.first_row, module.rows);
    if (module.magnitude == nullptr) {
      core::add_product(y, low_TR, module.b->value.t(), module.scale);
      continue;
    }
    at::Tensor norms;
    const auto ratio = magnitude_ratio(weight_OI, module, &norms);
    auto rows = y.to(low_TR.scalar_type());
    const auto offset =
        bias == nullptr
            ? at::Tensor()
            : bias->value.narrow(0, module.first_row, module.rows).to(low_TR.scalar_type());
    if (offset.defined()) rows = rows - offset;
    rows = at::addmm(rows, low_TR, module.b->value.t(), 1, module.scale) * ratio;
    if (offset.defined()) rows.add_(offset);
    y.copy_(rows);
  }
}

at::Tensor lora_weight_gradient(const at::Tensor& dy_TO, const at::Tensor& weight_OI,
                                const LinearAdapter& adapter) {
  at::Tensor scaled;
  if (!adapter.empty()) {
    for (const auto& module : *adapter.modules) {
      if (module.magnitude == nullptr) continue;
      if (!scaled.defined()) scaled = dy_TO.clone();
      at::Tensor norms;
      scaled.narrow(1, module.first_row, module.rows)
          .mul_(magnitude_ratio(weight_OI, module, &norms));
    }
  }
  return scaled.defined() ? scaled : dy_TO;
}

void lora_backward(at::Tensor& dx_TI, const at::Tensor& x_TI, const at::Tensor& dy_TO,
                   const at::Tensor& weight_OI, const LinearAdapter& adapter) {
  if (adapter.empty()) return;
  for (const auto& module : *adapter.modules) {
    const auto& a = module.a->value;
    const auto& b = module.b->value;
    at::Tensor mask;
    const auto input = low_rank_input(x_TI, module, adapter, &mask);
    const auto low_TR = core::product(input, a.t());
    auto dy = dy_TO.narrow(1, module.first_row, module.rows).to(a.scalar_type());
    if (module.magnitude != nullptr) {
      at::Tensor norms;
      const auto ratio = magnitude_ratio(weight_OI, module, &norms);
      if (module.magnitude->trainable) {
        auto rows = at::mm(input, rows_of(weight_OI, module).to(a.scalar_type()).t());
        rows = at::addmm(rows, low_TR, b.t(), 1, module.scale);
        module.magnitude->gradient().add_((dy * rows).sum(0) / norms);
      }
      dy = dy * ratio;
    }
    auto dlow_TR = core::product(dy, b).mul_(module.scale);
    if (module.b->trainable)
      core::add_transposed_product(module.b->gradient(), dy, low_TR, module.scale);
    if (module.a->trainable) core::add_transposed_product(module.a->gradient(), dlow_TR, input);
    if (mask.defined()) {
      dx_TI.add_(core::product(dlow_TR, a).mul_(mask));
    } else {
      core::add_product(dx_TI, dlow_TR, a);
    }
  }
}

at::Tensor merged_rows(const at::Tensor& weight_OI, const LowRank& module) {
  const auto& a = module.a->value;
  auto rows =
      at::addmm(widened(rows_of(weight_OI, module), module), module.b->value, a, 1, module.scale);
  if (module.magnitude == nullptr) return rows;
  at::Tensor norms;
  return rows.mul_(magnitude_ratio(weight_OI, module, &norms).unsqueeze(reduced(module)));
}

at::Tensor initial_magnitudes(const at::Tensor& weight_OI, const LowRank& module) {
  return at::linalg_vector_norm(widened(rows_of(weight_OI, module), module), 2,
                                at::IntArrayRef{reduced(module)});
}

}  // namespace posttrain::nn
