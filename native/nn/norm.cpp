#include "nn/norm.h"

#include <ATen/Parallel.h>

#include <cmath>

#include "core/simd.h"

namespace posttrain::nn {
namespace {

bool plain_floats(const at::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous();
}

POSTTRAIN_SIMD void rms_rows(const float* x, const float* w, float* y, float* rstd, int64_t rows,
                             int64_t width, double eps) {
  for (int64_t t = 0; t < rows; ++t) {
    const float* xt = x + t * width;
    float* yt = y + t * width;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; ++i) sum += xt[i] * xt[i];
    const float r = static_cast<float>(1.0 / std::sqrt(static_cast<double>(sum) / width + eps));
    rstd[t] = r;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) yt[i] = xt[i] * r * w[i];
  }
}

// dx = r (g - x r^2 mean(g x)), g = dy * w
POSTTRAIN_SIMD void rms_rows_backward(const float* x, const float* w, const float* dy,
                                      const float* rstd, float* dx, int64_t rows, int64_t width) {
  for (int64_t t = 0; t < rows; ++t) {
    const float* xt = x + t * width;
    const float* dyt = dy + t * width;
    float* dxt = dx + t * width;
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t i = 0; i < width; ++i) dot += dyt[i] * w[i] * xt[i];
    const float r = rstd[t];
    const float c = r * r * r * dot / static_cast<float>(width);
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) dxt[i] = r * dyt[i] * w[i] - c * xt[i];
  }
}

// dw[i] += sum over rows of dy * x * rstd, for columns [from, to)
POSTTRAIN_SIMD void rms_weight_columns(const float* x, const float* dy, const float* rstd,
                                       float* dw, int64_t rows, int64_t width, int64_t from,
                                       int64_t to) {
  for (int64_t t = 0; t < rows; ++t) {
    const float* xt = x + t * width;
    const float* dyt = dy + t * width;
    const float r = rstd[t];
#pragma omp simd
    for (int64_t i = from; i < to; ++i) dw[i] += dyt[i] * xt[i] * r;
  }
}

constexpr int64_t kRowGrain = 32;
constexpr int64_t kColumnGrain = 64;

at::ScalarType wide_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// Factor of the normalized rows
at::Tensor rms_scale(const Norm& norm, const at::Tensor& x) {
  const auto& w = norm.weight->value;
  return norm.offset ? w.to(wide_type(x)) + 1 : w;
}

at::Tensor rms_forward(const Norm& norm, const at::Tensor& x, at::Tensor& rstd) {
  const auto w = rms_scale(norm, x);
  const double eps = norm.eps;
  if (plain_floats(x) && w.scalar_type() == at::kFloat) {
    const int64_t rows = x.size(0), width = x.size(1);
    auto y = at::empty_like(x);
    rstd = at::empty({rows}, x.options());
    const float *xp = x.const_data_ptr<float>(), *wp = w.const_data_ptr<float>();
    float *yp = y.mutable_data_ptr<float>(), *rp = rstd.mutable_data_ptr<float>();
    at::parallel_for(0, rows, kRowGrain, [&](int64_t from, int64_t to) {
      rms_rows(xp + from * width, wp, yp + from * width, rp + from, to - from, width, eps);
    });
    return y;
  }
  const auto xw = x.to(wide_type(x));
  rstd = at::rsqrt(xw.square().mean(-1) + eps);
  const auto normed = xw * rstd.unsqueeze(-1);
  return norm.offset ? (normed * w).to(x.scalar_type()) : normed.to(x.scalar_type()) * w;
}

at::Tensor rms_backward(const Norm& norm, const at::Tensor& x, const at::Tensor& dy,
                        const at::Tensor& rstd) {
  auto& weight = *norm.weight;
  const auto w = rms_scale(norm, x);
  if (plain_floats(x) && plain_floats(dy) && w.scalar_type() == at::kFloat) {
    const int64_t rows = x.size(0), width = x.size(1);
    auto dx = at::empty_like(x);
    const float *xp = x.const_data_ptr<float>(), *wp = w.const_data_ptr<float>();
    const float *gp = dy.const_data_ptr<float>(), *rp = rstd.const_data_ptr<float>();
    float* dxp = dx.mutable_data_ptr<float>();
    at::parallel_for(0, rows, kRowGrain, [&](int64_t from, int64_t to) {
      rms_rows_backward(xp + from * width, wp, gp + from * width, rp + from, dxp + from * width,
                        to - from, width);
    });
    if (weight.trainable) {
      float* dwp = weight.gradient().mutable_data_ptr<float>();
      at::parallel_for(0, width, kColumnGrain, [&](int64_t from, int64_t to) {
        rms_weight_columns(xp, gp, rp, dwp, rows, width, from, to);
      });
    }
    return dx;
  }
  const auto wide = wide_type(x);
  const auto xw = x.to(wide), gw = dy.to(wide);
  const auto r = rstd.unsqueeze(-1);
  if (weight.trainable) weight.gradient().add_((gw * xw * r).sum(0));
  const auto g = gw * w.to(wide);
  return (r * (g - xw * r.square() * (g * xw).mean(-1, true))).to(x.scalar_type());
}

}  // namespace

NormKind norm_kind_of(const std::string& name) {
  if (name == "rms") return NormKind::rms;
  if (name == "layer") return NormKind::layer;
  TORCH_CHECK_VALUE(false, "[decoder] norm.kind must be rms or layer, got ", name);
}

at::Tensor Norm::forward(const at::Tensor& x_TD, NormTrace& trace) const {
  if (kind == NormKind::rms) return rms_forward(*this, x_TD, trace.rstd_T);
  auto [y, mean, rstd] =
      at::native_layer_norm(x_TD, {x_TD.size(-1)}, weight->value, bias->value, eps);
  trace.mean_T = mean;
  trace.rstd_T = rstd;
  return y;
}

at::Tensor Norm::backward(const at::Tensor& x_TD, const at::Tensor& dy_TD,
                          const NormTrace& trace) const {
  if (kind == NormKind::rms) return rms_backward(*this, x_TD, dy_TD, trace.rstd_T);
  auto [dx, dw, db] = at::native_layer_norm_backward(dy_TD, x_TD, {x_TD.size(-1)}, trace.mean_T,
                                                     trace.rstd_T, weight->value, bias->value,
                                                     {true, weight->trainable, bias->trainable});
  if (weight->trainable) weight->gradient().add_(dw);
  if (bias->trainable) bias->gradient().add_(db);
  return dx;
}

}  // namespace posttrain::nn
