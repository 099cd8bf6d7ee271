#pragma once
#include <cmath>
#include <cstdint>

namespace posttrain::optim {

/** One step of AdamW for one parameter whose moments are not float32. */
struct AdamWStep {
  double learning_rate;
  double weight_decay;
  double beta1, beta2, eps;
  /** From 1. */
  int64_t step;
  /** Gradients are divided by it. */
  double grad_scale;
};

/** The factors of a step in float32, as the loops use them. */
struct AdamWFactors {
  /** `rest1` and `rest2` are 1 - beta, rounded once. */
  float keep, beta1, beta2, rest1, rest2, rate, root, eps, scale;
  explicit AdamWFactors(const AdamWStep& step)
      : keep(static_cast<float>(1 - step.learning_rate * step.weight_decay)),
        beta1(static_cast<float>(step.beta1)),
        beta2(static_cast<float>(step.beta2)),
        rest1(static_cast<float>(1 - step.beta1)),
        rest2(static_cast<float>(1 - step.beta2)),
        rate(static_cast<float>(step.learning_rate /
                                (1 - std::pow(step.beta1, static_cast<double>(step.step))))),
        root(static_cast<float>(
            std::sqrt(1 - std::pow(step.beta2, static_cast<double>(step.step))))),
        eps(static_cast<float>(step.eps)),
        scale(static_cast<float>(step.grad_scale)) {}
};

}  // namespace posttrain::optim
