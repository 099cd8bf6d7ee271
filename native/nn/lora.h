#pragma once
#include <vector>

#include "device/kernels.h"
#include "nn/parameter.h"

namespace posttrain::nn {

/**
 * A low-rank update of the rows `first_row` to `first_row + rows - 1` of a linear layer (LoRA, Hu
 * et al. 2021, arXiv 2106.09685): y += scale * B A dropout(x). With `magnitude` (DoRA, Liu et al.
 * 2024, arXiv 2402.09353) the rows become m (W + scale B A) / ||W + scale B A||, the norm held
 * constant in the gradient, as the paper and PEFT do.
 *
 * A and B have the dtype of the layer, so that its products with x are those of the layer; with
 * magnitudes, or for what an initialization took out of the weight, float32 at least.
 */
struct LowRank {
  int64_t first_row = 0;
  int64_t rows = 0;
  Parameter* a = nullptr;          // [r, in]
  Parameter* b = nullptr;          // [rows, r]
  Parameter* magnitude = nullptr;  // [rows], or null
  /** The magnitudes belong to columns, [in]: those of an embedding. */
  bool of_columns = false;
  double scale = 1;
  double dropout = 0;
  /** Separates the dropout of the modules of one forward. */
  uint32_t stream = 0;
};

/** The updates of one linear layer in one forward; none by default. */
struct LinearAdapter {
  const std::vector<LowRank>* modules = nullptr;
  /** Dropout is on only with a seed other than 0. */
  uint64_t dropout_seed = 0;
  const device::Kernels* kernels = nullptr;

  bool empty() const { return modules == nullptr || modules->empty(); }
};

/** Whether the updates are computed from the weight itself, as DoRA's are. */
bool reads_weight(const LinearAdapter& adapter);

/** y in the dtype of the adapter, for a product with its matrices. */
at::Tensor widened(const at::Tensor& y, const LowRank& module);

/** Factor of B A: what dropout's 1 / (1 - p) loses in half precision is made up for here. */
double scale_of(const LowRank& module, const LinearAdapter& adapter, at::ScalarType dtype);

/** What a module's A is multiplied with: x [T, in], dropped out. Sets `mask` where there is
 * dropout.
 */
at::Tensor low_rank_input(const at::Tensor& x_TI, const LowRank& module,
                          const LinearAdapter& adapter, at::Tensor* mask);

/** m / ||W + scale B A|| of each row (of each column of an embedding), and the norms. */
at::Tensor magnitude_ratio(const at::Tensor& weight_OI, const LowRank& module, at::Tensor* norms);

/** Turns y [T, out] = x W^T + bias into the output of the updated layer. */
void lora_forward(at::Tensor& y_TO, const at::Tensor& x_TI, const at::Tensor& weight_OI,
                  const Parameter* bias, const LinearAdapter& adapter);

/** Gradient of x W^T, the frozen product: dy scaled by DoRA's magnitudes, without them dy. */
at::Tensor lora_weight_gradient(const at::Tensor& dy_TO, const at::Tensor& weight_OI,
                                const LinearAdapter& adapter);

/** Adds the gradients of A, B and the magnitudes to their buffers, and their part of dx [T, in]. */
void lora_backward(at::Tensor& dx_TI, const at::Tensor& x_TI, const at::Tensor& dy_TO,
                   const at::Tensor& weight_OI, const LinearAdapter& adapter);

/** The rows of `weight` with the update added: scale B A, or DoRA's rescaled rows; float32 or
 * wider, [rows, in]. */
at::Tensor merged_rows(const at::Tensor& weight_OI, const LowRank& module);

/** ||W|| of the module's rows or columns: the initial magnitudes. */
at::Tensor initial_magnitudes(const at::Tensor& weight_OI, const LowRank& module);

}  // namespace posttrain::nn
