#pragma once
#include "core/cancel.h"
#include "models/tokens.h"
#include "nn/head.h"

namespace posttrain::train {

/** Hidden states where labels are predicted, and the tokens for the forward of another role. */
struct HiddenStates {
  const models::Tokens& tokens;
  const at::Tensor& rows_R;
  const at::Tensor& hidden_RD;
  /** At the temperature of the pass. */
  nn::Head head;
  const core::Cancel& cancel;
};

/** Adds to a gradient that may still be undefined. */
inline void add_to(at::Tensor& sum, const at::Tensor& part) {
  sum = sum.defined() ? sum.add_(part) : part;
}

}  // namespace posttrain::train
