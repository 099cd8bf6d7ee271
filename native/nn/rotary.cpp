#include "nn/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/transfer.h"

namespace posttrain::nn {
namespace {

// Index of the frequency that makes that many full turns over the original context
// (yarn).
double correction_dim(double rotations, const RopeSpec& spec, double dim) {
  return dim * std::log(spec.original_max_positions / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(spec.theta));
}

double yarn_mscale(double scale, double mscale) {
  return scale <= 1 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0;
}

void scale_llama3(const RopeSpec& spec, float* f, int64_t half) {
  const double low_wavelength = spec.original_max_positions / spec.low_freq_factor;
  const double high_wavelength = spec.original_max_positions / spec.high_freq_factor;
  for (int64_t i = 0; i < half; ++i) {
    const double wavelength = 2 * std::numbers::pi / f[i];
    if (wavelength > low_wavelength) {
      f[i] = static_cast<float>(f[i] / spec.factor);
    } else if (wavelength >= high_wavelength) {
      const double smooth = (spec.original_max_positions / wavelength - spec.low_freq_factor) /
                            (spec.high_freq_factor - spec.low_freq_factor);
      f[i] = static_cast<float>((1 - smooth) * f[i] / spec.factor + smooth * f[i]);
    }
  }
}

void scale_yarn(const RopeSpec& spec, float* f, int64_t half) {
  const double dim = static_cast<double>(2 * half);
  double low = correction_dim(spec.beta_fast, spec, dim),
         high = correction_dim(spec.beta_slow, spec, dim);
  if (spec.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  for (int64_t i = 0; i < half; ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    f[i] = static_cast<float>(f[i] / spec.factor * ramp + f[i] * (1 - ramp));
  }
}

double yarn_attention_factor(const RopeSpec& spec) {
  if (spec.attention_factor.has_value()) return *spec.attention_factor;
  if (!spec.mscale.has_value() || !spec.mscale_all_dim.has_value())
    return yarn_mscale(spec.factor, 1);
  return yarn_mscale(spec.factor, *spec.mscale) / yarn_mscale(spec.factor, *spec.mscale_all_dim);
}

}  // namespace

RopeKind rope_kind_of(const std::string& name) {
  if (name == "default") return RopeKind::plain;
  if (name == "linear") return RopeKind::linear;
  if (name == "llama3") return RopeKind::llama3;
  if (name == "yarn") return RopeKind::yarn;
  TORCH_CHECK_VALUE(false, "[rotary] kind must be default, linear, llama3 or yarn, got ", name);
}

std::pair<at::Tensor, double> rope_frequencies(const RopeSpec& spec, int64_t rotary_dim) {
  const int64_t half = rotary_dim / 2;
  auto frequencies = at::empty({half}, at::kFloat);
  float* f = frequencies.mutable_data_ptr<float>();
  for (int64_t i = 0; i < half; ++i) {
    f[i] = 1.0f / std::pow(static_cast<float>(spec.theta),
                           static_cast<float>(2 * i) / static_cast<float>(rotary_dim));
  }
  switch (spec.kind) {
    case RopeKind::plain:
      return {frequencies, 1};
    case RopeKind::linear:
      for (int64_t i = 0; i < half; ++i) f[i] /= static_cast<float>(spec.factor);
      return {frequencies, 1};
    case RopeKind::llama3:
      scale_llama3(spec, f, half);
      return {frequencies, 1};
    case RopeKind::yarn:
      scale_yarn(spec, f, half);
      return {frequencies, yarn_attention_factor(spec)};
  }
  TORCH_CHECK(false, "[rotary] kind");
}

Rotary::Rotary(const RopeSpec& spec, int64_t head_dim, at::Device device, at::ScalarType dtype,
               const device::Kernels* kernels)
    : kernels_(kernels),
      head_dim_(head_dim),
      rotary_dim_(spec.rotary_dim.value_or(head_dim)),
      interleaved_(spec.interleaved),
      device_(device),
      dtype_(dtype) {
  TORCH_CHECK_VALUE(rotary_dim_ > 0 && rotary_dim_ % 2 == 0 && rotary_dim_ <= head_dim,
                    "[rotary] the rotated components of a head must be even and at most its ",
                    head_dim, ", got ", rotary_dim_);
  std::tie(inverse_frequency_, attention_factor_) = rope_frequencies(spec, rotary_dim_);
}

void Rotary::reserve(int64_t positions) {
  if (cos_PD_.defined() && cos_PD_.size(0) >= positions) return;
  const int64_t rows = std::max<int64_t>(positions, cos_PD_.defined() ? 2 * cos_PD_.size(0) : 64);
  // Angles are rounded to float32 as in the reference implementations; cosine and sine are
  // exact.
  const auto angles = at::outer(at::arange(rows, at::kFloat), inverse_frequency_).to(at::kDouble);
  cos_PD_ = core::on_device((angles.cos() * attention_factor_).to(dtype_), device_);
  sin_PD_ = core::on_device((angles.sin() * attention_factor_).to(dtype_), device_);
}

void Rotary::apply(const at::Tensor& x_TW, const at::Tensor& positions_T, int64_t heads,
                   bool inverse) const {
  kernels_->rope({cos_PD_, sin_PD_, head_dim_, interleaved_}, x_TW, positions_T, heads, inverse);
}

}  // namespace posttrain::nn
