#include "generate/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_set>

#include "core/philox.h"
#include "core/simd.h"

namespace posttrain::generate {
namespace {

/** Few enough that float32 sums their exponentials accurately. */
constexpr int64_t kBlock = 4096;

// The highest logit; NaN if any is not finite
POSTTRAIN_SIMD float highest_of(const float* x, int64_t n) {
  float highest = -std::numeric_limits<float>::infinity(), nothing = 0;
#pragma omp simd reduction(max : highest) reduction(+ : nothing)
  for (int64_t i = 0; i < n; ++i) {
    highest = x[i] > highest ? x[i] : highest;
    nothing += x[i] - x[i];
  }
  return highest + nothing;
}

// y = exp((x - highest) scale); returns the sum of a block
POSTTRAIN_SIMD float exponentials(const float* x, int64_t n, float highest, float scale, float* y) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    const float e = core::exp_f32((x[i] - highest) * scale);
    y[i] = e;
    sum += e;
  }
  return sum;
}

// The first place of a value that is there
POSTTRAIN_SIMD int64_t place_of(float value, const float* x, int64_t n) {
  constexpr int64_t kStep = 64;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    int found = 0;
#pragma omp simd reduction(| : found)
    for (int64_t j = 0; j < kStep; ++j) found |= x[i + j] == value;
    if (found != 0) break;
  }
  while (i + 1 < n && x[i] != value) ++i;
  return i;
}

// The sum of all weights relative to the most probable token
double total_of(std::span<const float> logits, float highest, double temperature) {
  std::array<float, kBlock> weights;
  double total = 0;
  const auto size = static_cast<int64_t>(logits.size());
  for (int64_t from = 0; from < size; from += kBlock) {
    total += exponentials(logits.data() + from, std::min(kBlock, size - from), highest,
                          static_cast<float>(1 / temperature), weights.data());
  }
  return total;
}

/** Unnormalized distribution: a weight for each candidate, and their sum. */
struct Candidates {
  /** Empty: every token in order. */
  std::vector<int32_t> ids;
  std::vector<float> weights;
  double total = 0;
};

// Weights relative to the most probable token
Candidates all_tokens(std::span<const float> logits, float highest, double temperature) {
  Candidates all;
  all.weights.resize(logits.size());
  const auto size = static_cast<int64_t>(logits.size());
  for (int64_t from = 0; from < size; from += kBlock) {
    all.total += exponentials(logits.data() + from, std::min(kBlock, size - from), highest,
                              static_cast<float>(1 / temperature), all.weights.data() + from);
  }
  return all;
}

// Keeps the weights within top-k, top-p and min-p
void narrow(Candidates& candidates, std::span<const float> logits, const Sampling& options) {
  auto& [ids, weights, total] = candidates;
  const auto size = static_cast<int32_t>(logits.size());
  const bool cut = options.top_k > 0 && options.top_k < size;
  if (cut || options.top_p < 1) {
    // In descending order of logits; ties by id, so that the order is the same everywhere.
    const auto before = [&](int32_t a, int32_t b) {
      return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    };
    ids.resize(size);
    std::iota(ids.begin(), ids.end(), 0);
    if (cut) {
      std::partial_sort(ids.begin(), ids.begin() + options.top_k, ids.end(), before);
      ids.resize(options.top_k);
    } else {
      std::sort(ids.begin(), ids.end(), before);
    }
    std::vector<float> sorted;
    for (const int32_t id : ids) sorted.push_back(weights[id]);
    weights = std::move(sorted);
    total = std::accumulate(weights.begin(), weights.end(), 0.0);
  }
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
}

}  // namespace

Draw sample(std::span<const float> logits, const std::vector<int32_t>& history,
            const Sampling& options, uint32_t row, uint32_t position) {
  const float highest = highest_of(logits.data(), static_cast<int64_t>(logits.size()));
  if (!std::isfinite(highest)) throw non_finite_logits();
  const double temperature = options.temperature > 0 ? options.temperature : 1;
  const bool greedy = options.temperature == 0, penalizes = options.repetition_penalty != 1;
  // The weights themselves only where one is drawn of them.
  Candidates candidates;
  if (!greedy && !penalizes) candidates = all_tokens(logits, highest, temperature);
  const double total_weight =
      greedy || penalizes ? total_of(logits, highest, temperature) : candidates.total;
  const auto draw = [&, lse = std::log(total_weight)](int32_t id) {
    const double relative = (static_cast<double>(logits[id]) - highest) / temperature;
    return Draw{id, static_cast<float>(relative - lse)};
  };

  std::vector<float> penalised;
  auto bent = logits;
  if (penalizes) {
    penalised.assign(logits.begin(), logits.end());
    for (const int32_t id : std::unordered_set<int32_t>(history.begin(), history.end())) {
      auto& value = penalised[id];
      value = static_cast<float>(value > 0 ? value / options.repetition_penalty
                                           : value * options.repetition_penalty);
    }
    bent = penalised;
  }
  const auto size = static_cast<int64_t>(bent.size());
  const float best = penalizes ? *std::max_element(bent.begin(), bent.end()) : highest;
  if (greedy) return draw(static_cast<int32_t>(place_of(best, bent.data(), size)));
  if (penalizes) candidates = all_tokens(bent, best, temperature);
  narrow(candidates, bent, options);

  const auto& [ids, weights, total] = candidates;
  double left = core::uniform(options.seed, core::Stream::sampling, row, position) * total;
  size_t chosen = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    chosen = i;
    left -= weights[i];
    if (left < 0) break;
  }
  return draw(ids.empty() ? static_cast<int32_t>(chosen) : ids[chosen]);
}

core::Error non_finite_logits() {
  return {core::ErrorCode::non_finite,
          "[generate] the model returned non-finite logits: its weights are damaged or training "
          "diverged"};
}

}  // namespace posttrain::generate
