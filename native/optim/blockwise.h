#pragma once
#include <ATen/ATen.h>

#include "optim/step.h"

namespace posttrain::optim {

/** Values of one block of a coded state: they share a scale. */
constexpr int64_t kBlock = 256;

/**
 * A float32 state in one byte a value and a scale a block (block-wise quantization with a dynamic
 * code: Dettmers et al. 2022, arXiv 2110.02861, in the layout of bitsandbytes): the value is
 * code[codes[i]] * scales[i / 256] over the flattened tensor.
 */
struct CodedState {
  at::Tensor codes;   // uint8, in the shape of the parameter
  at::Tensor scales;  // float32 [blocks]: the largest magnitude of each block
};

/** The state of zeros for a parameter; of signed values, or of values that are never negative. */
CodedState zero_state(const at::Tensor& like, bool is_signed);

/**
 * AdamW of one float32 parameter whose moments are coded: decodes a block, computes the step in
 * float32, updates the value with the moments before they are rounded, and codes them to the
 * nearest value.
 */
void adamw_blockwise(at::Tensor& value, const at::Tensor& grad, CodedState& first,
                     CodedState& second, const AdamWStep& step);
/** The same by torch's operations, for any device. */
void adamw_blockwise_by_operations(at::Tensor& value, const at::Tensor& grad, CodedState& first,
                                   CodedState& second, const AdamWStep& step);

}  // namespace posttrain::optim
