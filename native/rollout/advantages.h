#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace posttrain::rollout {

// B responses of N actions in all; `offsets` [B + 1] cuts N. Other positions are
// left out.

struct Advantages {
  std::vector<double> advantages, returns;  // [N]
};

/**
 * Generalized advantage estimation (Schulman et al. 2015, arXiv 1506.02438): delta_t = r_t + gamma
 * V_{t+1} - V_t, A_t = delta_t + gamma lambda A_{t+1}, return = A + V; after the last action of a
 * response V is 0.
 */
Advantages gae(std::span<const double> rewards, std::span<const double> values,
               std::span<const int64_t> offsets, double gamma, double lambda);

/**
 * (x - mean) / sqrt(variance + 1e-8) over the values whose mask is not 0 (all without a mask),
 * unbiased; without `shift` the mean is added back. Masked values become 0, and so do all where
 * fewer than two count or they do not vary.
 */
std::vector<double> whiten(std::span<const double> values, std::span<const uint8_t> mask,
                           bool shift);

/** Rewards of each action: -coefficient * kl, plus the score at the last action of a response. */
std::vector<double> token_rewards(std::span<const double> kl, std::span<const double> scores,
                                  std::span<const int64_t> offsets, double coefficient);

struct GroupAdvantages {
  std::vector<double> advantages;
  /** Groups of fewer than two rewards, or with rewards within 1e-8 of one another: advantage 0. */
  int64_t without_spread = 0;
};

/** Divisor of GRPO's advantages: the unbiased standard deviation of a group's rewards or of all of
 * them, or nothing (arXiv 2503.20783). */
enum class RewardScale { group, batch, none };
RewardScale reward_scale_of(const std::string& name);

/** GRPO (Shao et al. 2024, arXiv 2402.03300): (r - mean of the group) / (std + 1e-4); `offsets`
 * splits the rewards into groups. */
GroupAdvantages grpo_advantages(std::span<const double> rewards, std::span<const int64_t> offsets,
                                RewardScale scale);

/** RLOO (Ahmadian et al. 2024, arXiv 2402.14740): r - mean of the others of its group. */
GroupAdvantages rloo_advantages(std::span<const double> rewards, std::span<const int64_t> offsets);

}  // namespace posttrain::rollout
