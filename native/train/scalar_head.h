#pragma once
#include <vector>

#include "models/role.h"

namespace posttrain::train {

/** The scalar head of a role, [1, D]; throws ValueError if it has none. */
nn::Parameter& scalar_head_of(models::Role& role);
/** Outputs [R] of a scalar head for hidden states [R, D]. */
std::vector<double> read_scalar_head(const at::Tensor& hidden_RD, const nn::Parameter& head);
/** From derivatives [R] by its outputs: adds to the head's gradient and returns that of the hidden
 * states, [R, D]. */
at::Tensor scalar_head_backward(const std::vector<double>& derivatives, const at::Tensor& hidden_RD,
                                nn::Parameter& head);

}  // namespace posttrain::train
