#include "losses/ppo.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

namespace posttrain::losses {
namespace {

constexpr double kMaxLogRatio = 20;

struct Clipped {
  double loss;
  /** Derivative by the log-ratio. */
  double slope;
  double ratio;
  bool clipped;
};

Clipped clipped_loss(double log_ratio, double advantage, const PpoPolicyOptions& options) {
  const bool clamped = std::abs(log_ratio) > kMaxLogRatio;
  const double ratio = std::exp(std::clamp(log_ratio, -kMaxLogRatio, kMaxLogRatio));
  const double plain = -advantage * ratio;
  const double bounded =
      -advantage * std::clamp(ratio, 1 - options.clip_low, 1 + options.clip_high);
  Clipped result{std::max(plain, bounded), clamped ? 0 : plain, ratio, bounded > plain};
  if (result.clipped) result.slope = 0;
  if (options.dual_clip && advantage < 0 && result.loss > -*options.dual_clip * advantage) {
    result.loss = -*options.dual_clip * advantage;
    result.slope = 0;
    result.clipped = true;
  }
  // max() and clamp() would lose a NaN.
  if (std::isnan(log_ratio) || std::isnan(advantage)) result.loss = result.slope = NAN;
  return result;
}

}  // namespace

Sums ppo_policy(const PolicyInput& input, const PpoPolicyOptions& options, double scale,
                std::span<double> gradient) {
  Sums sums;
  double clipped = 0, approx_kl = 0, ratio = 0, ratio_squared = 0;
  const size_t rows = input.log_probs.size();
  for (size_t from = 0, to = 0; from < rows; from = to) {
    to = from + 1;
    if (options.sequence) {
      while (to < rows && input.documents[to] == input.documents[from]) ++to;
    }
    double log_ratio = 0;
    for (size_t r = from; r < to; ++r) log_ratio += input.log_probs[r] - input.old_log_probs[r];
    const double weight =
        input.weights[from] * (input.importance.empty() ? 1 : input.importance[from]);
    if (weight == 0) continue;
    const auto result = clipped_loss(log_ratio, input.advantages[from], options);
    sums.loss += weight * result.loss;
    sums.count += input.weights[from];
    clipped += input.weights[from] * result.clipped;
    approx_kl += input.weights[from] * 0.5 * log_ratio * log_ratio;
    ratio += input.weights[from] * result.ratio;
    ratio_squared += input.weights[from] * result.ratio * result.ratio;
    if (gradient.empty()) continue;
    for (size_t r = from; r < to; ++r) gradient[r] += scale * weight * result.slope;
  }
  sums.more = {{"clipped", clipped},
               {"approxKl", approx_kl},
               {"ratio", ratio},
               {"ratioSquared", ratio_squared}};
  return sums;
}

Sums ppo_value(std::span<const double> values, std::span<const double> old_values,
               std::span<const double> returns, std::span<const double> weights,
               std::optional<double> clip, double scale, std::span<double> gradient) {
  TORCH_CHECK_VALUE(!clip || *clip >= 0, "[ppo] clip must not be negative, got ", *clip);
  Sums sums;
  double clipped = 0;
  for (size_t r = 0; r < values.size(); ++r) {
    const double weight = weights[r];
    if (weight == 0) continue;
    const double bounded =
        clip ? std::clamp(values[r], old_values[r] - *clip, old_values[r] + *clip) : values[r];
    const double plain_error = values[r] - returns[r], bounded_error = bounded - returns[r];
    const bool bound = bounded_error * bounded_error > plain_error * plain_error;
    const double error = bound || std::isnan(plain_error) ? bounded_error : plain_error;
    sums.loss += weight * 0.5 * (std::isnan(values[r]) ? NAN : error * error);
    sums.count += weight;
    clipped += weight * bound;
    if (!gradient.empty() && !bound) gradient[r] += scale * weight * plain_error;
  }
  sums.more = {{"clipped", clipped}};
  return sums;
}

}  // namespace posttrain::losses
