#include <ATen/ATen.h>

#include <algorithm>

#include "core/philox.h"
#include "core/transfer.h"
#include "device/kernels.h"
#include "device/reference_attention.h"

namespace posttrain::device {
namespace {

at::Tensor rms(const RmsNorm& norm, const at::Tensor& x, at::Tensor& rstd) {
  const auto xw = x.to(wide_type(x));
  rstd = at::rsqrt(xw.square().mean(-1) + norm.eps);
  const auto normed = xw * rstd.unsqueeze(-1);
  return norm.offset ? (normed * (norm.weight_D.to(wide_type(x)) + 1)).to(x.scalar_type())
                     : normed.to(x.scalar_type()) * norm.weight_D;
}

at::Tensor rms_backward(const RmsNorm& norm, const at::Tensor& x, const at::Tensor& dy,
                        const at::Tensor& rstd, at::Tensor* dweight) {
  const auto wide = wide_type(x);
  const auto xw = x.to(wide), gw = dy.to(wide), w = norm.weight_D.to(wide);
  const auto r = rstd.unsqueeze(-1);
  if (dweight != nullptr) dweight->add_((gw * xw * r).sum(0));
  const auto g = gw * (norm.offset ? w + 1 : w);
  return (r * (g - xw * r.square() * (g * xw).mean(-1, true))).to(x.scalar_type());
}

void rope(const Rotation& rotation, const at::Tensor& x_TW, const at::Tensor& positions_T,
          int64_t heads, bool inverse) {
  const int64_t rows = x_TW.size(0), half = rotation.cos_PD.size(1);
  const auto view = x_TW.narrow(1, 0, heads * rotation.head_dim)
                        .view({rows, heads, rotation.head_dim})
                        .narrow(2, 0, 2 * half);
  const auto cos = rotation.cos_PD.index_select(0, positions_T).unsqueeze(1);
  auto sin = rotation.sin_PD.index_select(0, positions_T).unsqueeze(1);
  if (inverse) sin = -sin;
  const bool interleaved = rotation.interleaved;
  const auto first = interleaved ? view.slice(2, 0, 2 * half, 2) : view.narrow(2, 0, half);
  const auto second = interleaved ? view.slice(2, 1, 2 * half, 2) : view.narrow(2, half, half);
  const auto a = first.clone(), b = second.clone();
  first.copy_(a * cos - b * sin);
  second.copy_(b * cos + a * sin);
}

at::Tensor swiglu(const at::Tensor& gate_up) {
  const auto halves = gate_up.chunk(2, 1);
  return at::silu(halves[0]) * halves[1];
}

at::Tensor swiglu_backward(const at::Tensor& gate_up, const at::Tensor& dy) {
  auto result = at::empty_like(gate_up);
  const auto halves = gate_up.chunk(2, 1);
  auto targets = result.chunk(2, 1);
  targets[0].copy_(at::silu_backward(dy * halves[1], halves[0]));
  targets[1].copy_(dy * at::silu(halves[0]));
  return result;
}

void add_rows(at::Tensor& grad, const at::Tensor& ids, const at::Tensor& dy,
              std::optional<int64_t> padding_id) {
  grad.add_(at::embedding_dense_backward(dy.to(grad.scalar_type()), ids, grad.size(0),
                                         padding_id.value_or(-1), false));
}

void label_losses(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& scales,
                  at::Tensor& losses, at::Tensor& dlogits) {
  const auto target = targets.unsqueeze(1);
  auto log_p = at::log_softmax(logits, -1);
  const auto p = log_p.exp();
  const auto entropy_C1 = (p * log_p).sum(-1, true).neg_();
  losses[0].copy_(log_p.gather(1, target).squeeze(1).neg_());
  losses[1].copy_(entropy_C1.squeeze(1));
  losses[2].copy_(logits.gather(1, target).squeeze(1).eq(logits.amax(-1)));
  if (!scales.defined()) return;
  // d H / dx = -p (log p + H)
  const auto scales_2C1 = scales.to(p.scalar_type()).unsqueeze(2);
  const auto nll_C1 = scales_2C1[0], of_entropy_C1 = scales_2C1[1];
  log_p.add_(entropy_C1).mul_(of_entropy_C1).neg_().add_(nll_C1).mul_(p);
  dlogits.copy_(log_p.scatter_add_(1, target, nll_C1.neg()));
}

int64_t chunk_rows(int64_t columns) {
  return std::clamp<int64_t>((int64_t{8} << 20) / columns, 16, 1024);
}

int64_t logit_columns(int64_t columns) { return (columns + 63) / 64 * 64; }

at::Tensor dropout(const at::Tensor& x, at::ScalarType dtype, double p, uint64_t seed,
                   uint32_t stream) {
  auto mask = at::empty(x.sizes(), at::kFloat);
  core::fill_dropout(mask.mutable_data_ptr<float>(), mask.numel(), p, seed, stream);
  return core::on_device(mask.to(dtype), x.device());
}

}  // namespace

Kernels reference_kernels() {
  Kernels kernels{.rms = rms,
                  .rms_backward = rms_backward,
                  .rope = rope,
                  .swiglu = swiglu,
                  .swiglu_backward = swiglu_backward,
                  .add_rows = add_rows,
                  .label_rows = nullptr,
                  .label_losses = label_losses,
                  .logit_columns = logit_columns,
                  .nf4_values = nf4_values,
                  .nf4_product = nullptr,
                  .nf4_tokens = 0,
                  .chunk_rows = chunk_rows,
                  .dropout = dropout};
  use_reference_attention(kernels);
  return kernels;
}

}  // namespace posttrain::device
