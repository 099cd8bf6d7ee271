#include "generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_set>

#include "core/error.h"
#include "core/philox.h"

namespace posttrain::generate {

Draw sample(std::vector<float>& logits, const std::vector<int32_t>& history,
            const Sampling& options, uint32_t row, uint32_t position) {
  const auto size = static_cast<int32_t>(logits.size());
  for (const float value : logits) {
    if (!std::isfinite(value)) {
      throw core::Error("ERR_NON_FINITE",
                        "[generate] the model gave logits that are not finite: its weights are "
                        "damaged or training diverged");
    }
  }
  const double temperature = options.temperature > 0 ? options.temperature : 1;
  double highest = *std::max_element(logits.begin(), logits.end()) / temperature;
  double sum = 0;
  for (const float value : logits) sum += std::exp(value / temperature - highest);
  const double lse = highest + std::log(sum);
  const auto log_prob = [&, raw = std::vector<float>(options.repetition_penalty != 1
                                                         ? logits
                                                         : std::vector<float>())](int32_t id) {
    return static_cast<float>((raw.empty() ? logits[id] : raw[id]) / temperature - lse);
  };

  if (options.repetition_penalty != 1) {
    for (const int32_t id : std::unordered_set<int32_t>(history.begin(), history.end())) {
      auto& value = logits[id];
      value = static_cast<float>(value > 0 ? value / options.repetition_penalty
                                           : value * options.repetition_penalty);
    }
  }
  if (options.temperature == 0) {
    const auto id =
        static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    return {id, log_prob(id)};
  }

  // Candidates by falling logit; ties by id, so that the order is the same everywhere.
  std::vector<int32_t> ids(size);
  std::iota(ids.begin(), ids.end(), 0);
  const auto before = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  if (options.top_k > 0 && options.top_k < size) {
    std::partial_sort(ids.begin(), ids.begin() + options.top_k, ids.end(), before);
    ids.resize(options.top_k);
  } else if (options.top_p < 1) {
    std::sort(ids.begin(), ids.end(), before);
  }
  highest = -HUGE_VAL;
  for (const int32_t id : ids) highest = std::max(highest, logits[id] / temperature);
  std::vector<double> weights(ids.size());
  double total = 0;
  for (size_t i = 0; i < ids.size(); ++i)
    total += weights[i] = std::exp(logits[ids[i]] / temperature - highest);
  if (options.top_p < 1) {
    // The smallest set whose probability reaches top_p, and at least one token.
    double kept = 0;
    size_t count = 0;
    while (count < weights.size() && (count == 0 || kept < options.top_p * total))
      kept += weights[count++];
    ids.resize(count);
    weights.resize(count);
    total = kept;
  }
  if (options.min_p > 0) {
    total = 0;
    for (auto& weight : weights) {
      if (weight < options.min_p) weight = 0;  // the most probable has weight 1
      total += weight;
    }
  }
  double left = core::uniform(options.seed, core::Stream::sampling, row, position) * total;
  size_t chosen = weights.size();
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    chosen = i;
    left -= weights[i];
    if (left < 0) break;
  }
  return {ids[chosen], log_prob(ids[chosen])};
}

}  // namespace posttrain::generate
