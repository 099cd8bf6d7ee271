#pragma once
#include <vector>

#include "models/role.h"

namespace posttrain::train {

/** The scalar head of a role, [1, D]; throws ValueError where there is none. */
nn::Parameter& scalar_head_of(models::Role& role);
/** hidden [R, D] through a scalar head, [R]. */
std::vector<double> read_scalar_head(const at::Tensor& hidden_RD, const nn::Parameter& head);
/** Derivatives [R] by what was read: adds to the head's gradient and returns that of the hidden
 * states, [R, D]. */
at::Tensor scalar_head_backward(const std::vector<double>& derivatives, const at::Tensor& hidden_RD,
                                nn::Parameter& head);

}  // namespace posttrain::train
