#include "losses/kl.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

namespace posttrain::losses {
namespace {

constexpr double kMaxLogRatio = 20;

// exp of a log-ratio clamped to +-20, and its derivative
KlValue clamped_exp(double x) {
  const double value = std::exp(std::clamp(x, -kMaxLogRatio, kMaxLogRatio));
  return {std::isnan(x) ? NAN : value, std::abs(x) > kMaxLogRatio ? 0 : value};
}

}  // namespace

KlEstimator kl_estimator_of(const std::string& name) {
  if (name == "k1") return KlEstimator::k1;
  if (name == "k2") return KlEstimator::k2;
  if (name == "k3") return KlEstimator::k3;
  TORCH_CHECK_VALUE(false, "[kl] estimator must be k1, k2 or k3, got ", name);
}

KlDirection kl_direction_of(const std::string& name) {
  if (name == "forward") return KlDirection::forward;
  if (name == "reverse") return KlDirection::reverse;
  TORCH_CHECK_VALUE(false, "[kl] direction must be forward or reverse, got ", name);
}

KlValue kl_value(KlEstimator estimator, double log_prob, double reference) {
  const double d = log_prob - reference;
  switch (estimator) {
    case KlEstimator::k1:
      return {d, 1};
    case KlEstimator::k2:
      return {0.5 * d * d, d};
    case KlEstimator::k3: {
      const auto inverse = clamped_exp(-d);
      return {inverse.value - 1 + d, 1 - inverse.slope};
    }
  }
  TORCH_CHECK(false, "[kl] estimator");
}

Sums kl_penalty(std::span<const double> log_probs, std::span<const double> reference,
                std::span<const double> old_log_probs, std::span<const double> weights,
                KlEstimator estimator, double scale, std::span<double> gradient) {
  Sums sums;
  for (size_t r = 0; r < log_probs.size(); ++r) {
    if (weights[r] == 0) continue;
    auto kl = kl_value(estimator, log_probs[r], reference[r]);
    if (!old_log_probs.empty()) {
      const auto ratio = clamped_exp(log_probs[r] - old_log_probs[r]);
      kl = {kl.value * ratio.value, kl.slope * ratio.value + kl.value * ratio.slope};
    }
    sums.loss += weights[r] * kl.value;
    sums.count += weights[r];
    if (!gradient.empty()) gradient[r] += scale * weights[r] * kl.slope;
  }
  return sums;
}

double kl_full(std::span<const double> log_probs, std::span<const double> reference,
               KlDirection direction, double scale, std::span<double> gradient) {
  const bool forward = direction == KlDirection::forward;
  double sum = 0;
  for (size_t i = 0; i < log_probs.size(); ++i) {
    const double d = log_probs[i] - reference[i];
    const double p = std::exp(forward ? reference[i] : log_probs[i]);
    // A token of probability 0 adds nothing.
    if (p == 0) continue;
    sum += forward ? -p * d : p * d;
    if (!gradient.empty()) gradient[i] += scale * (forward ? -p : p * (d + 1));
  }
  return sum;
}

}  // namespace posttrain::losses
