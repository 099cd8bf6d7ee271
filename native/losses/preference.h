#pragma once
#include <span>
#include <string>

#include "losses/sums.h"

namespace posttrain::losses {

/** Losses of one pair; lc and lr are log p - log reference of the chosen and the rejected response,
 * d = lc - lr. */
enum class DpoKind {
  sigmoid,       // -logsig(b d): Rafailov et al. 2023, arXiv 2305.18290
  sigmoid_norm,  // -logsig(b (lc / len_c - lr / len_r)): arXiv 2411.15124
  hinge,         // relu(1 - b d): SLiC, arXiv 2305.10425
  ipo,           // (lc / len_c - lr / len_r - 1 / (2 b))^2: arXiv 2310.12036
  robust,        // (-(1 - e) logsig(b d) + e logsig(-b d)) / (1 - 2 e): arXiv 2403.00409
  cdpo,          // -(1 - e) logsig(b d) - e logsig(-b d): Mitchell 2023
  bco,           // -logsig(b lc) - logsig(-b lr): BCO, arXiv 2404.04656
  sppo,          // (lc - 1 / (2 b))^2 + (lr + 1 / (2 b))^2: arXiv 2405.00675
  nca,           // -logsig(b lc) - logsig(-b lc) / 2 - logsig(-b lr) / 2: arXiv 2402.05369
  apo_zero,      // 1 - sig(b lc) + sig(b lr): arXiv 2408.06266
  apo_down,      // sig(b lc) + 1 - sig(b d): arXiv 2408.06266
  exo,           // q log(q / (1 - e)) + (1 - q) log((1 - q) / e), q = sig(b d): arXiv 2402.00856
  discopop,      // -(1 - m) logsig(b d) + m exp(-b d), m = sig(b d / 0.05): arXiv 2406.08414
  dpop,          // -logsig(b (d - lambda max(0, -lc))): Smaug, arXiv 2402.13228v2
  simpo,         // -logsig(b (avg_c - avg_r) - gamma), no reference: arXiv 2405.14734
  orpo,          // -avg_c - b logsig(log odds ratio), no reference: arXiv 2403.07691
  cpo,           // -logsig(b (log p_c - log p_r)), no reference: arXiv 2401.08417, eq. 3; its
                 // cross-entropy of the chosen responses is a term of its own
};
struct DpoOptions {
  DpoKind kind = DpoKind::sigmoid;
  double beta = 0.1;
  /** e above; exo needs it above 0. */
  double label_smoothing = 0;
  double gamma = 0;
  double lambda = 0;
};
/** Throws ValueError for options out of range, such as a beta of 0. */
void check(const DpoOptions& options);

/** A loss of the table: its name, what it needs, and its defaults, as in
 * lib/options/pair-losses.ts. */
struct DpoEntry {
  const char* name;
  /** Needs no reference. */
  bool reference_free;
  /** Divides log-probabilities by the tokens of the responses. */
  bool lengths;
  DpoOptions defaults;
};
/** All losses, in the order of DpoKind. */
std::span<const DpoEntry> dpo_table();
/** Throws ValueError for an unknown name. */
const DpoEntry& dpo_entry(const std::string& name);
const DpoEntry& dpo_entry(DpoKind kind);

/** Summed log-probabilities and token counts of both responses. */
struct PairInput {
  double chosen, rejected;
  double chosen_reference = 0, rejected_reference = 0;
  double chosen_length = 1, rejected_length = 1;
};

struct PairLoss {
  double loss;
  /** Derivatives by the summed log-probabilities. */
  double chosen, rejected;
};

PairLoss dpo_loss(const PairInput& pair, const DpoOptions& options);

struct KtoOptions {
  double beta = 0.1;
  double desirable_weight = 1, undesirable_weight = 1;
  /** Mean log-ratio of mismatched responses, at least 0, not differentiated. */
  double kl = 0;
};

struct ExampleLoss {
  double loss, slope;
};

/**
 * Ethayarajh et al. 2024, arXiv 2402.01306: w_D (1 - sig(b (l - z))) where the response is
 * desirable, else w_U (1 - sig(b (z - l))), l = log p - log reference of the whole response.
 */
ExampleLoss kto_loss(double log_prob, double reference, bool desirable, const KtoOptions& options);

/** -logsig(better - worse - margin) + center (better + worse)^2: Bradley & Terry 1952; centering:
 * arXiv 2312.09244. */
PairLoss pairwise_reward_loss(double better, double worse, double margin, double center);

}  // namespace posttrain::losses
