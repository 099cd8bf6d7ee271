#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/error.h"

namespace posttrain::generate {

struct Sampling {
  double temperature = 0;  // 0: the most probable token
  int64_t top_k = 0;       // 0: off
  double top_p = 1;        // 1: off
  double min_p = 0;        // 0: off
  double repetition_penalty = 1;
  uint64_t seed = 0;
};

struct Draw {
  int32_t id;
  /** Log-probability of id under softmax(logits / temperature); with temperature 0 under
   * softmax(logits). */
  float log_prob;
};

/**
 * One token from one row of logits. Order: repetition penalty (Keskar et al. 2019, arXiv
 * 1909.05858), temperature, top-k, top-p (Holtzman et al. 2020, arXiv 1904.09751), min-p (arXiv
 * 2407.01082), softmax, draw. The draw depends on (seed, row, position) alone. Throws
 * Error(ERR_NON_FINITE) for non-finite logits.
 */
Draw sample(std::span<const float> logits, const std::vector<int32_t>& history,
            const Sampling& options, uint32_t row, uint32_t position);

/** The error of logits that are not finite. */
core::Error non_finite_logits();

}  // namespace posttrain::generate
