#pragma once
#include <cstdint>
#include <optional>
#include <span>

#include "losses/sums.h"

namespace posttrain::losses {

struct PpoPolicyOptions {
  double clip_low = 0.2, clip_high = 0.2;
  /** Dual clip (Ye et al. 2020, arXiv 1912.09729): with a negative advantage the loss is at most
   * this times |A|. */
  std::optional<double> dual_clip;
  /** One ratio for each document, exp of the sum of its log-ratios (RLOO, arXiv 2402.14740); its
   * advantage is that of its first label. */
  bool sequence = false;
};

/** R labels; `documents` [R] ascending, used for sequence-level ratios only. */
struct PolicyInput {
  std::span<const double> log_probs, old_log_probs, advantages, weights;
  std::span<const double> importance;  // or empty
  std::span<const int64_t> documents;
};

/**
 * Clipped policy loss (Schulman et al. 2017, arXiv 1707.06347): sum of weight * max(-A r, -A
 * clip(r, 1 - low, 1 + high)) with r = exp(log p - old), the log-ratio clamped to +-20. Adds scale
 * * gradient to `gradient` [R] where it is given. More: clipped, approxKl (0.5 d^2), ratio,
 * ratioSquared.
 */
Sums ppo_policy(const PolicyInput& input, const PpoPolicyOptions& options, double scale,
                std::span<double> gradient);

/** 0.5 * sum of weight * max((v - R)^2, (clip(v, old - c, old + c) - R)^2), without a clip (v -
 * R)^2 alone. Throws ValueError for a clip below 0. More: clipped. */
Sums ppo_value(std::span<const double> values, std::span<const double> old_values,
               std::span<const double> returns, std::span<const double> weights,
               std::optional<double> clip, double scale, std::span<double> gradient);

}  // namespace posttrain::losses
