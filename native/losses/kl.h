#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "losses/sums.h"

namespace posttrain::losses {

/**
 * Estimators of KL(p || reference) from samples of p (Schulman 2020, 'Approximating KL
 * divergence'), d = log p - log reference: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d.
 */
enum class KlEstimator { k1, k2, k3 };
KlEstimator kl_estimator_of(const std::string& name);

/** Over the whole vocabulary: forward is sum p_ref (log p_ref - log p), the textbook penalty,
 * reverse sum p (log p - log p_ref). */
enum class KlDirection { forward, reverse };
KlDirection kl_direction_of(const std::string& name);

/** One value of an estimator and its derivative by log p; d clamped to +-20 inside the exponential.
 */
struct KlValue {
  double value, slope;
};
KlValue kl_value(KlEstimator estimator, double log_prob, double reference);

/**
 * Sum of weight * estimate; where `old_log_probs` is given each is multiplied by the ratio exp(log
 * p - old), which is differentiated too: the unbiased gradient of k3 (DeepSeek-V3.2; TRL's
 * use_bias_correction_kl). Adds scale * gradient to `gradient` where it is given.
 */
Sums kl_penalty(std::span<const double> log_probs, std::span<const double> reference,
                std::span<const double> old_log_probs, std::span<const double> weights,
                KlEstimator estimator, double scale, std::span<double> gradient);

/** KL of N rows of log-probabilities over V columns, summed over the rows. Gradient by log p, [N
 * V].
 */
double kl_full(std::span<const double> log_probs, std::span<const double> reference,
               KlDirection direction, double scale, std::span<double> gradient);

}  // namespace posttrain::losses
