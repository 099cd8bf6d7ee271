#pragma once
#include "nn/lora.h"
#include "nn/parameter.h"

namespace posttrain::nn {

/** y = x W^T + b with W [out, in]; x [T, in], y [T, out]. The bias may be null. */
struct Linear {
  Parameter* weight = nullptr;
  Parameter* bias = nullptr;

  at::Tensor forward(const at::Tensor& x_TI, const LinearAdapter& adapter = {}) const;
  /** The same of one token a row, without a backward. */
  at::Tensor decode(const at::Tensor& x_BI, const LinearAdapter& adapter = {}) const;
  /** Adds dW, db and the gradients of the low-rank updates to the buffers of trainable
   * parameters; returns dx [T, in]. */
  at::Tensor backward(const at::Tensor& x_TI, const at::Tensor& dy_TO,
                      const LinearAdapter& adapter = {}) const;

 private:
  at::Tensor forward_coded(const at::Tensor& x_TI, const LinearAdapter& adapter) const;
};

}  // namespace posttrain::nn
