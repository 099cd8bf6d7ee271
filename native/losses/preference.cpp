#include "losses/preference.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace posttrain::losses {
namespace {

double sigmoid(double x) {
  return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}
double log_sigmoid(double x) {
  return x >= 0 ? -std::log1p(std::exp(-x)) : x - std::log1p(std::exp(x));
}
// Derivative of sigmoid
double bell(double x) { return sigmoid(x) * sigmoid(-x); }

// Name, whether it is reference-free, whether it divides by lengths, defaults.
constexpr std::array kTable{
    DpoEntry{"sigmoid", false, false, {.kind = DpoKind::sigmoid}},
    DpoEntry{"sigmoidNorm", false, true, {.kind = DpoKind::sigmoid_norm}},
    DpoEntry{"hinge", false, false, {.kind = DpoKind::hinge}},
    DpoEntry{"ipo", false, true, {.kind = DpoKind::ipo}},
    DpoEntry{"robust", false, false, {.kind = DpoKind::robust}},
    DpoEntry{"cdpo", false, false, {.kind = DpoKind::cdpo}},
    DpoEntry{"bco", false, false, {.kind = DpoKind::bco}},
    DpoEntry{"sppo", false, false, {.kind = DpoKind::sppo}},
    DpoEntry{"nca", false, false, {.kind = DpoKind::nca}},
    DpoEntry{"apoZero", false, false, {.kind = DpoKind::apo_zero}},
    DpoEntry{"apoDown", false, false, {.kind = DpoKind::apo_down}},
    DpoEntry{"exo", false, false, {.kind = DpoKind::exo, .label_smoothing = 1e-3}},
    DpoEntry{"discopop", false, false, {.kind = DpoKind::discopop}},
    DpoEntry{"dpop", false, false, {.kind = DpoKind::dpop, .lambda = 50}},
    DpoEntry{"simpo", true, true, {.kind = DpoKind::simpo, .beta = 2, .gamma = 1}},
    DpoEntry{"orpo", true, true, {.kind = DpoKind::orpo}},
    DpoEntry{"cpo", true, false, {.kind = DpoKind::cpo}},
};
static_assert(
    [] {
      for (size_t i = 0; i < kTable.size(); ++i)
        if (static_cast<size_t>(kTable[i].defaults.kind) != i) return false;
      return true;
    }(),
    "the table is in the order of DpoKind");

// log(1 - exp(x)) for x < 0
double log1mexp(double x) {
  return x > -0.6931471805599453 ? std::log(-std::expm1(x)) : std::log1p(-std::exp(x));
}

}  // namespace

std::span<const DpoEntry> dpo_table() { return kTable; }

const DpoEntry& dpo_entry(const std::string& name) {
  for (const auto& entry : kTable) {
    if (name == entry.name) return entry;
  }
  TORCH_CHECK_VALUE(false, "[dpo] unknown loss kind ", name);
}

const DpoEntry& dpo_entry(DpoKind kind) { return kTable.at(static_cast<size_t>(kind)); }

void check(const DpoOptions& options) {
  const double e = options.label_smoothing;
  TORCH_CHECK_VALUE(std::isfinite(options.beta) && options.beta > 0,
                    "[dpo] beta must be above 0, got ", options.beta);
  TORCH_CHECK_VALUE(e >= 0 && e < 0.5, "[dpo] labelSmoothing must be in [0, 0.5), got ", e);
  TORCH_CHECK_VALUE(options.kind != DpoKind::exo || e > 0,
                    "[dpo] kind exo needs a labelSmoothing above 0");
  TORCH_CHECK_VALUE(std::isfinite(options.gamma), "[dpo] gamma must be finite, got ",
                    options.gamma);
  TORCH_CHECK_VALUE(std::isfinite(options.lambda) && options.lambda >= 0,
                    "[dpo] lambda must be at least 0, got ", options.lambda);
}

PairLoss dpo_loss(const PairInput& pair, const DpoOptions& options) {
  const double b = options.beta, e = options.label_smoothing;
  const bool referenced = !dpo_entry(options.kind).reference_free;
  const double lc = pair.chosen - (referenced ? pair.chosen_reference : 0);
  const double lr = pair.rejected - (referenced ? pair.rejected_reference : 0);
  const double nc = 1 / pair.chosen_length, nr = 1 / pair.rejected_length;
  // Losses of x = b d: their value and derivative by x
  const auto of_margin = [&](double loss, double slope) {
    return PairLoss{loss, b * slope, -b * slope};
  };
  const double x = b * (lc - lr);
  switch (options.kind) {
    case DpoKind::sigmoid:
    case DpoKind::cpo:
      return of_margin(-log_sigmoid(x), -sigmoid(-x));
    case DpoKind::sigmoid_norm: {
      const double y = b * (lc * nc - lr * nr), slope = -b * sigmoid(-y);
      return {-log_sigmoid(y), slope * nc, -slope * nr};
    }
    case DpoKind::hinge:
      return of_margin(x < 1 || std::isnan(x) ? 1 - x : 0, x < 1 ? -1 : 0);
    case DpoKind::ipo: {
      const double y = lc * nc - lr * nr - 1 / (2 * b);
      return {y * y, 2 * y * nc, -2 * y * nr};
    }
    case DpoKind::robust:
      return of_margin((-(1 - e) * log_sigmoid(x) + e * log_sigmoid(-x)) / (1 - 2 * e),
                       (-(1 - e) * sigmoid(-x) - e * sigmoid(x)) / (1 - 2 * e));
    case DpoKind::cdpo:
      return of_margin(-(1 - e) * log_sigmoid(x) - e * log_sigmoid(-x),
                       -(1 - e) * sigmoid(-x) + e * sigmoid(x));
    case DpoKind::bco:
      return {-log_sigmoid(b * lc) - log_sigmoid(-b * lr), -b * sigmoid(-b * lc),
              b * sigmoid(b * lr)};
    case DpoKind::sppo: {
      const double c = lc - 0.5 / b, r = lr + 0.5 / b;
      return {c * c + r * r, 2 * c, 2 * r};
    }
    case DpoKind::nca:
      return {-log_sigmoid(b * lc) - 0.5 * log_sigmoid(-b * lc) - 0.5 * log_sigmoid(-b * lr),
              b * (-sigmoid(-b * lc) + 0.5 * sigmoid(b * lc)), 0.5 * b * sigmoid(b * lr)};
    case DpoKind::apo_zero:
      return {1 - sigmoid(b * lc) + sigmoid(b * lr), -b * bell(b * lc), b * bell(b * lr)};
    case DpoKind::apo_down:
      return {sigmoid(b * lc) + 1 - sigmoid(x), b * (bell(b * lc) - bell(x)), b * bell(x)};
    case DpoKind::exo: {
      const double q = sigmoid(x), log_q = log_sigmoid(x), log_not = log_sigmoid(-x);
      const double up = log_q - std::log(1 - e), down = log_not - std::log(e);
      return of_margin(q * up + (1 - q) * down, bell(x) * (up - down));
    }
    case DpoKind::discopop: {
      constexpr double kTau = 0.05;
      const double y = x / kTau, m = sigmoid(y), slope = bell(y) / kTau;
      const double logistic = -log_sigmoid(x);
      // m exp(-x), joined: far below 0 the factors are 0 and infinity.
      const double exponential = std::exp(log_sigmoid(y) - x);
      return of_margin(
          (1 - m) * logistic + exponential,
          -slope * logistic - (1 - m) * sigmoid(-x) + exponential * (sigmoid(-y) / kTau - 1));
    }
    case DpoKind::dpop: {
      // At lc = 0, where training starts, the penalty has slope 0, as relu has.
      const bool fallen = lc < 0;
      const double y = b * (lc - lr + (fallen ? options.lambda * lc : 0)), slope = -b * sigmoid(-y);
      return {-log_sigmoid(y), slope * (fallen ? 1 + options.lambda : 1), -slope};
    }
    case DpoKind::simpo: {
      const double y = b * (lc * nc - lr * nr) - options.gamma, slope = -b * sigmoid(-y);
      return {-log_sigmoid(y), slope * nc, -slope * nr};
    }
    case DpoKind::orpo: {
      // A certain response has infinite odds.
      constexpr double kCertain = -1e-12;
      const double pc = std::min(lc * nc, kCertain), pr = std::min(lr * nr, kCertain);
      const double odds = pc - pr - log1mexp(pc) + log1mexp(pr);
      const double slope = -b * sigmoid(-odds);
      return {-pc - b * log_sigmoid(odds), nc * (-1 + slope / -std::expm1(pc)),
              -nr * slope / -std::expm1(pr)};
    }
  }
  TORCH_CHECK(false, "[dpo] kind");
}

ExampleLoss kto_loss(double log_prob, double reference, bool desirable, const KtoOptions& options) {
  const double x = options.beta * (log_prob - reference - options.kl);
  if (desirable) {
    return {options.desirable_weight * sigmoid(-x),
            -options.desirable_weight * options.beta * bell(x)};
  }
  return {options.undesirable_weight * sigmoid(x),
          options.undesirable_weight * options.beta * bell(x)};
}

PairLoss pairwise_reward_loss(double better, double worse, double margin, double center) {
  const double x = better - worse - margin, sum = better + worse;
  return {-log_sigmoid(x) + center * sum * sum, -sigmoid(-x) + 2 * center * sum,
          sigmoid(-x) + 2 * center * sum};
}

}  // namespace posttrain::losses
