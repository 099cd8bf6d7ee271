#include "device/label_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/simd.h"

namespace posttrain::device {
namespace {

POSTTRAIN_SIMD float highest_of(const float* x, int64_t n) {
  float highest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : highest)
  for (int64_t i = 0; i < n; ++i) highest = x[i] > highest ? x[i] : highest;
  return highest;
}

// Sums of e = exp(x - highest) and of e * (x - highest), in blocks so that float32 keeps
// the small ones
POSTTRAIN_SIMD void exponential_sums(const float* x, int64_t n, float highest, double* sum,
                                     double* product) {
  double total = 0, weighted = 0;
  for (int64_t from = 0; from < n; from += 4096) {
    const int64_t to = from + 4096 < n ? from + 4096 : n;
    float s = 0, w = 0;
#pragma omp simd reduction(+ : s, w)
    for (int64_t i = from; i < to; ++i) {
      const float d = x[i] - highest;
      const float e = core::exp_f32(d);
      s += e;
      w += e * d;
    }
    total += s;
    weighted += w;
  }
  *sum = total;
  *product = weighted;
}

POSTTRAIN_SIMD void softmax_scaled(float* x, int64_t n, float highest, float factor) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) x[i] = core::exp_f32(x[i] - highest) * factor;
}

// p (factor - slope (x - highest)), p = exp(x - highest)
POSTTRAIN_SIMD void softmax_scaled_with_entropy(float* x, int64_t n, float highest, float factor,
                                                float slope) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float d = x[i] - highest;
    x[i] = core::exp_f32(d) * (factor - slope * d);
  }
}

template <class T>
void fill_nan(T* x, int64_t n) {
  std::fill(x, x + n, std::numeric_limits<T>::quiet_NaN());
}

// entropy = log s - (sum e d) / s with d = x - highest: a non-finite logit makes it non-finite
template <class T>
RowLoss finish_row(T* x, int64_t columns, int64_t target, double highest, double sum,
                   double product, bool gradient) {
  const double lse = std::log(sum);
  const double entropy = lse - product / sum;
  if (!std::isfinite(entropy)) {
    if (gradient) fill_nan(x, columns);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    return {nan, nan, false};
  }
  return {lse - (static_cast<double>(x[target]) - highest), entropy,
          static_cast<double>(x[target]) == highest};
}

}  // namespace

RowLoss cross_entropy_row(float* x, int64_t columns, int64_t target, int64_t r,
                          const ScaleOf& scale_of) {
  const float highest = highest_of(x, columns);
  double sum, product;
  exponential_sums(x, columns, highest, &sum, &product);
  const auto row = finish_row(x, columns, target, highest, sum, product, scale_of != nullptr);
  if (scale_of && std::isfinite(row.nll)) {
    const auto scale = scale_of(r, row);
    // d H / dx = -p (log p + H) with log p = d - log sum
    const double rest = scale.nll - scale.entropy * (row.entropy - std::log(sum));
    if (scale.entropy == 0) {
      softmax_scaled(x, columns, highest, static_cast<float>(scale.nll / sum));
    } else {
      softmax_scaled_with_entropy(x, columns, highest, static_cast<float>(rest / sum),
                                  static_cast<float>(scale.entropy / sum));
    }
    x[target] -= static_cast<float>(scale.nll);
  }
  return row;
}

RowLoss cross_entropy_row(double* x, int64_t columns, int64_t target, int64_t r,
                          const ScaleOf& scale_of) {
  const double highest = *std::max_element(x, x + columns);
  double sum = 0, product = 0;
  for (int64_t i = 0; i < columns; ++i) {
    const double e = std::exp(x[i] - highest);
    sum += e;
    product += e * (x[i] - highest);
  }
  const auto row = finish_row(x, columns, target, highest, sum, product, scale_of != nullptr);
  if (scale_of && std::isfinite(row.nll)) {
    const auto scale = scale_of(r, row);
    const double rest = scale.nll - scale.entropy * (row.entropy - std::log(sum));
    for (int64_t i = 0; i < columns; ++i) {
      const double d = x[i] - highest;
      x[i] = std::exp(d) / sum * (rest - scale.entropy * d);
    }
    x[target] -= scale.nll;
  }
  return row;
}

}  // namespace posttrain::device
