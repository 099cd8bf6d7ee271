#pragma once
#include <ATen/ATen.h>

#include "optim/step.h"

namespace posttrain::optim {

/**
 * AdamW of one float32 parameter with moments in bfloat16: computes the step in float32, updates
 * the value with the moments before they are rounded, and rounds them up or down with the odds of
 * their distances (stochastic rounding), so that they are right in the mean. The nearest value
 * would keep the second moment where it is: a step changes it by 0.1 % (beta2 0.999), and a
 * bfloat16 value by at least 0.4 %. What decides is a hash of the step, the `index` of the
 * parameter and the place of the value.
 */
void adamw_half_moments(at::Tensor& value, const at::Tensor& grad, at::Tensor& first,
                        at::Tensor& second, const AdamWStep& step, uint32_t index);
/** The same by torch's operations, for any device. */
void adamw_half_moments_by_operations(at::Tensor& value, const at::Tensor& grad, at::Tensor& first,
                                      at::Tensor& second, const AdamWStep& step, uint32_t index);

}  // namespace posttrain::optim
