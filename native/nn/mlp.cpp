#include "nn/mlp.h"

#include <ATen/ATen.h>

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

at::Tensor Mlp::activated(const at::Tensor& up) const {
  if (kind == MlpKind::plain) return activate(activation, up);
  if (activation == Activation::silu) return kernels->swiglu(up);
  const auto halves = up.chunk(2, 1);
  return activate(activation, halves[0]) * halves[1];
}

at::Tensor Mlp::forward(const at::Tensor& x_TD, MlpTrace& trace, const MlpAdapter& adapter) const {
  trace.up = up.forward(x_TD, adapter.up);
  trace.activation = activated(trace.up);
  return down.forward(trace.activation, adapter.down);
}

at::Tensor Mlp::decode(const at::Tensor& x_BD, const MlpAdapter& adapter) const {
  return down.decode(activated(up.decode(x_BD, adapter.up)), adapter.down);
}

at::Tensor Mlp::backward(const at::Tensor& x_TD, const at::Tensor& dy_TD, const MlpTrace& trace,
                         const MlpAdapter& adapter) const {
  const auto dactivation = down.backward(trace.activation, dy_TD, adapter.down);
  if (kind == MlpKind::plain)
    return up.backward(x_TD, activate_backward(activation, dactivation, trace.up), adapter.up);
  if (activation == Activation::silu)
    return up.backward(x_TD, kernels->swiglu_backward(trace.up, dactivation), adapter.up);
  auto dup = at::empty_like(trace.up);
  const auto halves = trace.up.chunk(2, 1);
  auto targets = dup.chunk(2, 1);
  targets[0].copy_(activate_backward(activation, dactivation * halves[1], halves[0]));
  targets[1].copy_(dactivation * activate(activation, halves[0]));
  return up.backward(x_TD, dup, adapter.up);
}

}  // namespace posttrain::nn
