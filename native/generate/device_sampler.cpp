#include "generate/device_sampler.h"

#include <ATen/ATen.h>

namespace posttrain::generate {
namespace {

/** Weights in the order in which tokens are drawn; ids in that order, undefined: every token. */
struct Candidates {
  at::Tensor weights_BN, ids_BN;
};

// Keeps the weights within top-k, top-p and min-p
Candidates narrowed(const at::Tensor& logits_BV, at::Tensor weights_BN, const Sampling& options) {
  at::Tensor ids_BN;
  const bool cut = options.top_k > 0 && options.top_k < logits_BV.size(1);
  if (cut || options.top_p < 1) {
    // Stable: ties by id
    ids_BN = std::get<1>(logits_BV.sort(/*stable=*/true, 1, /*descending=*/true));
    if (cut) ids_BN = ids_BN.narrow(1, 0, options.top_k);
    weights_BN = weights_BN.gather(1, ids_BN);
  }
  if (options.top_p < 1) {
    const auto sums_BN = weights_BN.cumsum(1, at::kDouble);
    // What stands before a token has not reached top_p yet.
    const auto before_BN = sums_BN - weights_BN;
    auto kept_BN = before_BN.lt(sums_BN.narrow(1, sums_BN.size(1) - 1, 1) * options.top_p);
    kept_BN.narrow(1, 0, 1).fill_(true);
    weights_BN = weights_BN.mul(kept_BN);
  }
  if (options.min_p > 0) weights_BN = weights_BN.mul(weights_BN.ge(options.min_p));
  return {weights_BN, ids_BN};
}

// The first token at which the sum of the weights passes the share of all that was drawn
at::Tensor chosen(const Candidates& candidates, const at::Tensor& uniforms_B) {
  const auto sums_BN = candidates.weights_BN.cumsum(1, at::kDouble);
  const auto total_B1 = sums_BN.narrow(1, sums_BN.size(1) - 1, 1);
  const auto passed_B1 = sums_BN.le(uniforms_B.unsqueeze(1) * total_B1).sum(1, true);
  // Where rounding leaves the share at the total: the last token with a weight
  const auto last_B1 = sums_BN.lt(total_B1).sum(1, true);
  const auto place_B1 = at::minimum(passed_B1, last_B1);
  return candidates.ids_BN.defined() ? candidates.ids_BN.gather(1, place_B1) : place_B1;
}

}  // namespace

DeviceDraws sample_on_device(const at::Tensor& logits_BV, const at::Tensor& seen_BV,
                             const at::Tensor& uniforms_B, const Sampling& options) {
  const auto wide_BV = logits_BV.to(at::kFloat);
  const double temperature = options.temperature > 0 ? options.temperature : 1;
  const auto highest_B1 = wide_BV.amax(1, true);
  const auto lse_B =
      (wide_BV - highest_B1).div_(temperature).exp_().sum(1, false, at::kDouble).log_();
  // 0 for a finite value, NaN for others
  const auto nothing_B = (wide_BV - wide_BV).sum(1);

  auto bent_BV = wide_BV;
  if (seen_BV.defined()) {
    const double penalty = options.repetition_penalty;
    bent_BV =
        at::where(seen_BV, at::where(wide_BV.gt(0), wide_BV / penalty, wide_BV * penalty), wide_BV);
  }
  at::Tensor ids_B1;
  if (options.temperature == 0) {
    ids_B1 = bent_BV.argmax(1, true);
  } else {
    const auto weights_BV = (bent_BV - bent_BV.amax(1, true)).div_(temperature).exp_();
    ids_B1 = chosen(narrowed(bent_BV, weights_BV, options), uniforms_B);
  }
  const auto drawn_B = (wide_BV.gather(1, ids_B1) - highest_B1).squeeze(1).to(at::kDouble);
  return {ids_B1.squeeze(1), drawn_B.div_(temperature).sub_(lse_B).add_(nothing_B)};
}

}  // namespace posttrain::generate
