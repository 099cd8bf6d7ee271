#include "nn/lora.h"

#include <algorithm>

#include "core/matmul.h"

namespace posttrain::nn {
namespace {

at::Tensor rows_of(const at::Tensor& weight_OI, const LowRank& module) {
  return weight_OI.narrow(0, module.first_row, module.rows);
}

int64_t reduced(const LowRank& module) { return module.of_columns ? 0 : 1; }

/** The A of all modules as one matrix [K, in], where the adapter laid them one behind another and
 * they read the same x; undefined elsewhere. */
at::Tensor together(const LinearAdapter& adapter) {
  const auto& modules = *adapter.modules;
  const auto& first = modules[0].a->value;
  if (modules.size() < 2) return {};
  int64_t rows = 0;
  for (const auto& module : modules) {
    const auto& a = module.a->value;
    const bool drops = module.dropout != 0 && adapter.dropout_seed != 0;
    if (drops || module.magnitude != nullptr || !a.is_alias_of(first) ||
        a.storage_offset() != first.storage_offset() + rows * first.size(1))
      return {};
    rows += a.size(0);
  }
  return first.as_strided({rows, first.size(1)}, first.strides());
}

void forward_together(at::Tensor& y_TO, const at::Tensor& x_TI, const at::Tensor& all_KI,
                      const LinearAdapter& adapter) {
  const auto low_TK = core::product(x_TI, all_KI.t());
  int64_t from = 0;
  for (const auto& module : *adapter.modules) {
    const int64_t rank = module.a->value.size(0);
    auto y = y_TO.narrow(1, module.first_row, module.rows);
    core::add_product(y, low_TK.narrow(1, from, rank), module.b->value.t(), module.scale);
    from += rank;
  }
}

void backward_together(at::Tensor& dx_TI, const at::Tensor& x_TI, const at::Tensor& dy_TO,
                       const at::Tensor& all_KI, const LinearAdapter& adapter) {
  const auto low_TK = core::product(x_TI, all_KI.t());
  auto dlow_TK = at::empty_like(low_TK);
  int64_t from = 0;
  for (const auto& module : *adapter.modules) {
    const int64_t rank = module.a->value.size(0);
    const auto dy = dy_TO.narrow(1, module.first_row, module.rows);
    auto dlow = dlow_TK.narrow(1, from, rank);
    core::multiply(dlow, dy, module.b->value);
    dlow.mul_(module.scale);
    if (module.b->trainable)
      core::add_transposed_product(module.b->gradient(), dy, low_TK.narrow(1, from, rank),
                                   module.scale);
    if (module.a->trainable) core::add_transposed_product(module.a->gradient(), dlow, x_TI);
    from += rank;
  }
  core::add_product(dx_TI, dlow_TK, all_KI);
}

}  // namespace

bool reads_weight(const LinearAdapter& adapter) {
  return !adapter.empty() &&
         std::any_of(adapter.modules->begin(), adapter.modules->end(),
                     [](const LowRank& module) { return module.magnitude != nullptr; });
}

at::Tensor widened(const at::Tensor& y, const LowRank& module) {
  return y.to(module.a->value.scalar_type());
}

double scale_of(const LowRank& module, const LinearAdapter& adapter, at::ScalarType dtype) {
  if (module.dropout == 0 || adapter.dropout_seed == 0) return module.scale;
  const auto kept = static_cast<float>(1 / (1 - module.dropout));
  const float rounded = dtype == at::kBFloat16 ? static_cast<float>(c10::BFloat16(kept))
                        : dtype == at::kHalf   ? static_cast<float>(c10::Half(kept))
                                               : kept;
  return module.scale * (kept / rounded);
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
  const auto& a = module.a->exact();
  const auto updated = at::addmm(rows_of(weight_OI, module).to(a.scalar_type()), module.b->exact(),
                                 a, 1, module.scale);
  *norms = at::linalg_vector_norm(updated, 2, at::IntArrayRef{reduced(module)});
  return module.magnitude->value / *norms;
}

void lora_forward(at::Tensor& y_TO, const at::Tensor& x_TI, const at::Tensor& weight_OI,
                  const Parameter* bias, const LinearAdapter& adapter) {
  if (adapter.empty()) return;
  if (const auto all_KI = together(adapter); all_KI.defined())
    return forward_together(y_TO, x_TI, all_KI, adapter);
  for (const auto& module : *adapter.modules) {
    at::Tensor mask;
    const auto input = low_rank_input(x_TI, module, adapter, &mask);
    const auto low_TR = core::product(input, module.a->value.t());
    auto y = y_TO.narrow(1, module.first_row, module.rows);
    const double scale = scale_of(module, adapter, low_TR.scalar_type());
    if (module.magnitude == nullptr) {
      core::add_product(y, low_TR, module.b->value.t(), scale);
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
  if (const auto all_KI = together(adapter); all_KI.defined())
    return backward_together(dx_TI, x_TI, dy_TO, all_KI, adapter);
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
    const double scale = scale_of(module, adapter, low_TR.scalar_type());
    auto dlow_TR = core::product(dy, b).mul_(scale);
    if (module.b->trainable) core::add_transposed_product(module.b->gradient(), dy, low_TR, scale);
    if (module.a->trainable) core::add_transposed_product(module.a->gradient(), dlow_TR, input);
    if (mask.defined()) {
      dx_TI.add_(core::product(dlow_TR, a).mul_(mask));
    } else {
      core::add_product(dx_TI, dlow_TR, a);
    }
  }
}

at::Tensor merged_rows(const at::Tensor& weight_OI, const LowRank& module) {
  const auto& a = module.a->exact();
  auto rows = at::addmm(rows_of(weight_OI, module).to(a.scalar_type()), module.b->exact(), a, 1,
                        module.scale);
  if (module.magnitude == nullptr) return rows;
  at::Tensor norms;
  return rows.mul_(magnitude_ratio(weight_OI, module, &norms).unsqueeze(reduced(module)));
}

at::Tensor initial_magnitudes(const at::Tensor& weight_OI, const LowRank& module) {
  return at::linalg_vector_norm(rows_of(weight_OI, module).to(module.a->exact().scalar_type()), 2,
                                at::IntArrayRef{reduced(module)});
}

}  // namespace posttrain::nn
