#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "core/matmul.h"
#include "core/simd.h"
#include "device/cpu_attention.h"
#include "device/kernels.h"

namespace posttrain::device {
namespace {

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

bool plain_floats(const at::Tensor& x) {
  return x.scalar_type() == at::kFloat && x.is_contiguous();
}

// Factor of the normalized rows
at::Tensor rms_scale(const RmsNorm& norm) {
  return norm.offset ? norm.weight_D + 1 : norm.weight_D;
}

at::Tensor rms(const RmsNorm& norm, const at::Tensor& x, at::Tensor& rstd) {
  if (!plain_floats(x)) return reference_kernels().rms(norm, x, rstd);
  const auto w = rms_scale(norm);
  const double eps = norm.eps;
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

at::Tensor rms_backward(const RmsNorm& norm, const at::Tensor& x, const at::Tensor& dy,
                        const at::Tensor& rstd, at::Tensor* dweight) {
  if (!plain_floats(x) || !plain_floats(dy))
    return reference_kernels().rms_backward(norm, x, dy, rstd, dweight);
  const auto w = rms_scale(norm);
  const int64_t rows = x.size(0), width = x.size(1);
  auto dx = at::empty_like(x);
  const float *xp = x.const_data_ptr<float>(), *wp = w.const_data_ptr<float>();
  const float *gp = dy.const_data_ptr<float>(), *rp = rstd.const_data_ptr<float>();
  float* dxp = dx.mutable_data_ptr<float>();
  at::parallel_for(0, rows, kRowGrain, [&](int64_t from, int64_t to) {
    rms_rows_backward(xp + from * width, wp, gp + from * width, rp + from, dxp + from * width,
                      to - from, width);
  });
  if (dweight != nullptr) {
    float* dwp = dweight->mutable_data_ptr<float>();
    at::parallel_for(0, width, kColumnGrain, [&](int64_t from, int64_t to) {
      rms_weight_columns(xp, gp, rp, dwp, rows, width, from, to);
    });
  }
  return dx;
}

// x[i], x[i + half] -> x[i] c - x[i + half] s, x[i + half] c + x[i] s for every head
POSTTRAIN_SIMD void rotate_row(float* x, const float* cos, const float* sin, int64_t heads,
                               int64_t head_dim, int64_t half, float sign) {
  for (int64_t h = 0; h < heads; ++h) {
    float* a = x + h * head_dim;
    float* b = a + half;
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
      const float ai = a[i], bi = b[i], s = sign * sin[i];
      a[i] = ai * cos[i] - bi * s;
      b[i] = bi * cos[i] + ai * s;
    }
  }
}

// Rotates the pairs x[2 i] and x[2 i + 1]
POSTTRAIN_SIMD void rotate_row_interleaved(float* x, const float* cos, const float* sin,
                                           int64_t heads, int64_t head_dim, int64_t half,
                                           float sign) {
  for (int64_t h = 0; h < heads; ++h) {
    float* a = x + h * head_dim;
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
      const float ai = a[2 * i], bi = a[2 * i + 1], s = sign * sin[i];
      a[2 * i] = ai * cos[i] - bi * s;
      a[2 * i + 1] = bi * cos[i] + ai * s;
    }
  }
}

void rope(const Rotation& rotation, const at::Tensor& x_TW, const at::Tensor& positions_T,
          int64_t heads, bool inverse) {
  const int64_t rows = x_TW.size(0), half = rotation.cos_PD.size(1);
  float* x = x_TW.mutable_data_ptr<float>();
  const int64_t stride = x_TW.stride(0);
  const auto* position = positions_T.const_data_ptr<int64_t>();
  const float* cos = rotation.cos_PD.const_data_ptr<float>();
  const float* sin = rotation.sin_PD.const_data_ptr<float>();
  const auto rotate = rotation.interleaved ? rotate_row_interleaved : rotate_row;
  at::parallel_for(0, rows, 32, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) {
      rotate(x + t * stride, cos + position[t] * half, sin + position[t] * half, heads,
             rotation.head_dim, half, inverse ? -1.0f : 1.0f);
    }
  });
}

POSTTRAIN_INLINE float sigmoid(float x) { return 1.0f / (1.0f + core::exp_f32(-x)); }

// y = silu(gate) * up; exp_f32 does not keep NaN, the products with gate do
POSTTRAIN_SIMD void swiglu_row(const float* gate, const float* up, float* y, int64_t width) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

POSTTRAIN_SIMD void swiglu_row_backward(const float* gate, const float* up, const float* dy,
                                        float* dgate, float* dup, int64_t width) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    const float s = sigmoid(gate[i]);
    dup[i] = dy[i] * gate[i] * s;
    dgate[i] = dy[i] * up[i] * s * (1.0f + gate[i] * (1.0f - s));
  }
}

at::Tensor swiglu(const at::Tensor& gate_up) {
  const int64_t rows = gate_up.size(0), width = gate_up.size(1) / 2;
  auto y = at::empty({rows, width}, gate_up.options());
  const float* in = gate_up.const_data_ptr<float>();
  float* out = y.mutable_data_ptr<float>();
  at::parallel_for(0, rows, 8, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) {
      swiglu_row(in + 2 * t * width, in + (2 * t + 1) * width, out + t * width, width);
    }
  });
  return y;
}

at::Tensor swiglu_backward(const at::Tensor& gate_up, const at::Tensor& dy_TI) {
  const int64_t rows = gate_up.size(0), width = gate_up.size(1) / 2;
  auto result = at::empty_like(gate_up);
  const float *in = gate_up.const_data_ptr<float>(), *dy = dy_TI.const_data_ptr<float>();
  float* out = result.mutable_data_ptr<float>();
  at::parallel_for(0, rows, 8, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) {
      swiglu_row_backward(in + 2 * t * width, in + (2 * t + 1) * width, dy + t * width,
                          out + 2 * t * width, out + (2 * t + 1) * width, width);
    }
  });
  return result;
}

void add_rows(at::Tensor& grad, const at::Tensor& ids_T, const at::Tensor& dy_TD,
              std::optional<int64_t> padding_id) {
  const auto* ids = ids_T.const_data_ptr<int64_t>();
  const int64_t tokens = ids_T.numel(), width = grad.size(1);
  AT_DISPATCH_FLOATING_TYPES(grad.scalar_type(), "add_rows", [&] {
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

void label_rows(at::Tensor& logits, const int64_t* targets, int64_t first, const ScaleOf& scale_of,
                double* nll, double* entropy, uint8_t* correct) {
  const int64_t rows = logits.size(0), columns = logits.size(1), stride = logits.stride(0);
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "label_rows", [&] {
    scalar_t* x = logits.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, rows, 1, [&](int64_t from, int64_t to) {
      for (int64_t r = from; r < to; ++r) {
        const auto row =
            cross_entropy_row(x + r * stride, columns, targets[r], first + r, scale_of);
        nll[r] = row.nll;
        entropy[r] = row.entropy;
        correct[r] = row.correct;
      }
    });
  });
}

}  // namespace

Kernels cpu_kernels(at::ScalarType dtype) {
  auto kernels = reference_kernels();
  use_cpu_attention(kernels, dtype);
  kernels.add_rows = add_rows;
  kernels.label_rows = label_rows;
  if (dtype == at::kFloat) {
    kernels.nf4_values = nf4_values_cpu;
    kernels.nf4_product = nf4_product_cpu;
    kernels.nf4_tokens = 16;
  }
  kernels.logit_columns = core::fast_stride;
  if (dtype == at::kFloat) {
    kernels.rms = rms;
    kernels.rms_backward = rms_backward;
    kernels.rope = rope;
    kernels.swiglu = swiglu;
    kernels.swiglu_backward = swiglu_backward;
  }
  return kernels;
}

}  // namespace posttrain::device
