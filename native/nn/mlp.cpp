#include "nn/mlp.h"

#include <ATen/Parallel.h>

#include "core/simd.h"

namespace posttrain::nn {
namespace {

at::Tensor activate(Activation kind, const at::Tensor& x) {
  switch (kind) {
    case Activation::silu:
      return at::silu(x);
    case Activation::gelu:
      return at::gelu(x);
    case Activation::gelu_tanh:
      return at::gelu(x, "tanh");
    case Activation::relu:
      return at::relu(x);
  }
  TORCH_CHECK(false, "[mlp] activation");
}

at::Tensor activate_backward(Activation kind, const at::Tensor& dy, const at::Tensor& x) {
  switch (kind) {
    case Activation::silu:
      return at::silu_backward(dy, x);
    case Activation::gelu:
      return at::gelu_backward(dy, x);
    case Activation::gelu_tanh:
      return at::gelu_backward(dy, x, "tanh");
    case Activation::relu:
      return at::threshold_backward(dy, x, 0);
  }
  TORCH_CHECK(false, "[mlp] activation");
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

bool swiglu_kernel_serves(const Mlp& mlp, const at::Tensor& x) {
  return mlp.activation == Activation::silu && x.is_cpu() && x.scalar_type() == at::kFloat;
}

}  // namespace

MlpKind mlp_kind_of(const std::string& name) {
  if (name == "gated") return MlpKind::gated;
  if (name == "plain") return MlpKind::plain;
  TORCH_CHECK_VALUE(false, "[decoder] mlp.kind must be gated or plain, got ", name);
}

Activation activation_of(const std::string& name) {
  if (name == "silu") return Activation::silu;
  if (name == "gelu") return Activation::gelu;
  if (name == "geluTanh") return Activation::gelu_tanh;
  if (name == "relu") return Activation::relu;
  TORCH_CHECK_VALUE(false, "[mlp] activation must be silu, gelu, geluTanh or relu, got ", name);
}

at::Tensor Mlp::forward(const at::Tensor& x_TD, MlpTrace& trace, const MlpAdapter& adapter) const {
  trace.up = up.forward(x_TD, adapter.up);
  if (kind == MlpKind::plain) {
    trace.activation = activate(activation, trace.up);
  } else if (swiglu_kernel_serves(*this, trace.up)) {
    const int64_t rows = trace.up.size(0), width = trace.up.size(1) / 2;
    trace.activation = at::empty({rows, width}, trace.up.options());
    const float* in = trace.up.const_data_ptr<float>();
    float* out = trace.activation.mutable_data_ptr<float>();
    at::parallel_for(0, rows, 8, [&](int64_t from, int64_t to) {
      for (int64_t t = from; t < to; ++t) {
        swiglu_row(in + 2 * t * width, in + (2 * t + 1) * width, out + t * width, width);
      }
    });
  } else {
    const auto halves = trace.up.chunk(2, 1);
    trace.activation = activate(activation, halves[0]) * halves[1];
  }
  return down.forward(trace.activation, adapter.down);
}

at::Tensor Mlp::backward(const at::Tensor& x_TD, const at::Tensor& dy_TD, const MlpTrace& trace,
                         const MlpAdapter& adapter) const {
  const auto dactivation = down.backward(trace.activation, dy_TD, adapter.down);
  if (kind == MlpKind::plain)
    return up.backward(x_TD, activate_backward(activation, dactivation, trace.up), adapter.up);
  auto dup = at::empty_like(trace.up);
  if (swiglu_kernel_serves(*this, trace.up)) {
    const int64_t rows = trace.up.size(0), width = trace.up.size(1) / 2;
    const float *in = trace.up.const_data_ptr<float>(), *dy = dactivation.const_data_ptr<float>();
    float* out = dup.mutable_data_ptr<float>();
    at::parallel_for(0, rows, 8, [&](int64_t from, int64_t to) {
      for (int64_t t = from; t < to; ++t) {
        swiglu_row_backward(in + 2 * t * width, in + (2 * t + 1) * width, dy + t * width,
                            out + 2 * t * width, out + (2 * t + 1) * width, width);
      }
    });
  } else {
    const auto halves = trace.up.chunk(2, 1);
    auto targets = dup.chunk(2, 1);
    targets[0].copy_(activate_backward(activation, dactivation * halves[1], halves[0]));
    targets[1].copy_(dactivation * activate(activation, halves[0]));
  }
  return up.backward(x_TD, dup, adapter.up);
}

}  // namespace posttrain::nn
