#include "rollout/advantages.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

namespace posttrain::rollout {
namespace {

void check_offsets(std::span<const int64_t> offsets, size_t count) {
  TORCH_CHECK_VALUE(!offsets.empty() && offsets.front() == 0 &&
                        offsets.back() == static_cast<int64_t>(count) &&
                        std::is_sorted(offsets.begin(), offsets.end()),
                    "[rollout] offsets must increase from 0 to ", count);
}

double mean_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

// Unbiased
double variance_of(std::span<const double> values, double mean) {
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return values.size() < 2 ? 0 : sum / static_cast<double>(values.size() - 1);
}

std::span<const double> group_of(std::span<const double> rewards, std::span<const int64_t> offsets,
                                 size_t g) {
  const auto from = static_cast<size_t>(offsets[g]);
  return rewards.subspan(from, static_cast<size_t>(offsets[g + 1]) - from);
}

bool spreads(std::span<const double> group) {
  if (group.size() < 2) return false;
  const auto [low, high] = std::minmax_element(group.begin(), group.end());
  return !(*high - *low <= 1e-8);
}

// The divisor of a group's advantages
double divisor_of(RewardScale scale, std::span<const double> group, double mean, double whole) {
  switch (scale) {
    case RewardScale::group:
      return std::sqrt(variance_of(group, mean)) + 1e-4;
    case RewardScale::batch:
      return whole + 1e-4;
    case RewardScale::none:
      return 1;
  }
  TORCH_CHECK(false, "[grpo] scale");
}

}  // namespace

Advantages gae(std::span<const double> rewards, std::span<const double> values,
               std::span<const int64_t> offsets, double gamma, double lambda) {
  TORCH_CHECK_VALUE(rewards.size() == values.size(), "[gae] ", rewards.size(), " rewards for ",
                    values.size(), " values");
  TORCH_CHECK_VALUE(gamma >= 0 && gamma <= 1, "[gae] gamma must be in [0, 1], got ", gamma);
  TORCH_CHECK_VALUE(lambda >= 0 && lambda <= 1, "[gae] lambda must be in [0, 1], got ", lambda);
  check_offsets(offsets, rewards.size());
  Advantages result{std::vector<double>(rewards.size()), std::vector<double>(rewards.size())};
  for (size_t b = 0; b + 1 < offsets.size(); ++b) {
    double next_value = 0, next_advantage = 0;
    for (int64_t t = offsets[b + 1]; t-- > offsets[b];) {
      const auto i = static_cast<size_t>(t);
      const double delta = rewards[i] + gamma * next_value - values[i];
      next_advantage = delta + gamma * lambda * next_advantage;
      next_value = values[i];
      result.advantages[i] = next_advantage;
      result.returns[i] = next_advantage + values[i];
    }
  }
  return result;
}

std::vector<double> whiten(std::span<const double> values, std::span<const uint8_t> mask,
                           bool shift) {
  TORCH_CHECK_VALUE(mask.empty() || mask.size() == values.size(), "[whiten] the mask has ",
                    mask.size(), " entries for ", values.size(), " values");
  std::vector<double> counted;
  for (size_t i = 0; i < values.size(); ++i) {
    if (mask.empty() || mask[i] != 0) counted.push_back(values[i]);
  }
  std::vector<double> result(values.size(), 0.0);
  if (counted.size() < 2) return result;
  // The mean of equal values may differ from them in its last bit.
  const auto [low, high] = std::minmax_element(counted.begin(), counted.end());
  const double mean = mean_of(counted), variance = variance_of(counted, mean);
  if (*low == *high || variance == 0) return result;
  for (size_t i = 0; i < values.size(); ++i) {
    if (mask.empty() || mask[i] != 0)
      result[i] = (values[i] - mean) / std::sqrt(variance + 1e-8) + (shift ? 0 : mean);
  }
  return result;
}

std::vector<double> token_rewards(std::span<const double> kl, std::span<const double> scores,
                                  std::span<const int64_t> offsets, double coefficient) {
  check_offsets(offsets, kl.size());
  TORCH_CHECK_VALUE(scores.size() + 1 == offsets.size(), "[rollout] ", scores.size(),
                    " scores for ", offsets.size() - 1, " responses");
  std::vector<double> result(kl.size());
  for (size_t i = 0; i < kl.size(); ++i) result[i] = -coefficient * kl[i];
  for (size_t b = 0; b < scores.size(); ++b) {
    TORCH_CHECK_VALUE(offsets[b + 1] > offsets[b], "[rollout] response ", b, " has no tokens");
    result[static_cast<size_t>(offsets[b + 1] - 1)] += scores[b];
  }
  return result;
}

RewardScale reward_scale_of(const std::string& name) {
  if (name == "group") return RewardScale::group;
  if (name == "batch") return RewardScale::batch;
  if (name == "none") return RewardScale::none;
  TORCH_CHECK_VALUE(false, "[grpo] scaleRewards must be group, batch or none, got ", name);
}

GroupAdvantages grpo_advantages(std::span<const double> rewards, std::span<const int64_t> offsets,
                                RewardScale scale) {
  check_offsets(offsets, rewards.size());
  GroupAdvantages result{std::vector<double>(rewards.size(), 0.0)};
  const double whole = std::sqrt(variance_of(rewards, mean_of(rewards)));
  for (size_t g = 0; g + 1 < offsets.size(); ++g) {
    const auto group = group_of(rewards, offsets, g);
    if (!spreads(group)) {
      ++result.without_spread;
      continue;
    }
    const auto from = static_cast<size_t>(offsets[g]);
    const double mean = mean_of(group);
    const double divisor = divisor_of(scale, group, mean, whole);
    for (size_t i = 0; i < group.size(); ++i)
      result.advantages[from + i] = (group[i] - mean) / divisor;
  }
  return result;
}

GroupAdvantages rloo_advantages(std::span<const double> rewards, std::span<const int64_t> offsets) {
  check_offsets(offsets, rewards.size());
  GroupAdvantages result{std::vector<double>(rewards.size(), 0.0)};
  for (size_t g = 0; g + 1 < offsets.size(); ++g) {
    const auto group = group_of(rewards, offsets, g);
    if (!spreads(group)) {
      ++result.without_spread;
      continue;
    }
    const auto from = static_cast<size_t>(offsets[g]);
    const auto size = static_cast<double>(group.size());
    const double sum = mean_of(group) * size;
    for (size_t i = 0; i < group.size(); ++i)
      result.advantages[from + i] = group[i] - (sum - group[i]) / (size - 1);
  }
  return result;
}

}  // namespace posttrain::rollout
