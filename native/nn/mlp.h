#pragma once
#include <string>

#include "device/kernels.h"
#include "nn/linear.h"

namespace posttrain::nn {

enum class MlpKind { gated, plain };
MlpKind mlp_kind_of(const std::string& name);

enum class Activation { silu, gelu, gelu_tanh, relu };
Activation activation_of(const std::string& name);

struct MlpTrace {
  at::Tensor up;          // [T, I], gated [T, 2 I]: before the activation
  at::Tensor activation;  // [T, I]: input of `down`
};

/** The low-rank updates of both layers in one forward. */
struct MlpAdapter {
  LinearAdapter up, down;
};

/** Plain: down(act(up(x))). Gated (SwiGLU, arXiv 2002.05202): down(act(gate) * up), gate and up in
 * one matrix. */
struct Mlp {
  MlpKind kind = MlpKind::gated;
  Activation activation = Activation::silu;
  Linear up;
  Linear down;
  const device::Kernels* kernels = nullptr;

  at::Tensor forward(const at::Tensor& x_TD, MlpTrace& trace, const MlpAdapter& adapter = {}) const;
  /** The same of one token a row, without a backward. */
  at::Tensor decode(const at::Tensor& x_BD, const MlpAdapter& adapter = {}) const;
  at::Tensor backward(const at::Tensor& x_TD, const at::Tensor& dy_TD, const MlpTrace& trace,
                      const MlpAdapter& adapter = {}) const;

 private:
  /** What `down` gets of what `up` gives. */
  at::Tensor activated(const at::Tensor& up) const;
};

}  // namespace posttrain::nn
