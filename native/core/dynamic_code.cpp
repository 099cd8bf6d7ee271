#include "core/dynamic_code.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace posttrain::core {
namespace {

at::Tensor code_values(bool is_signed) {
  std::vector<at::Tensor> parts = {at::zeros({1}), at::ones({1})};
  for (int decade = 0; decade < 7; ++decade) {
    const int64_t count = int64_t{1} << (is_signed ? decade : decade + 1);
    const auto bounds = at::linspace(0.1, 1, count + 1, at::kFloat);
    const auto means = (bounds.slice(0, 0, count) + bounds.slice(0, 1)) / 2.0;
    parts.push_back(means * std::pow(10.0, decade - 6));
    if (is_signed) parts.push_back(-parts.back());
  }
  return std::get<0>(at::cat(parts).sort());
}

}  // namespace

DynamicCode::DynamicCode(bool is_signed) : tensor_([is_signed] { return code_values(is_signed); }) {
  const auto code = tensor(at::kCPU);
  std::memcpy(values_.data(), code.const_data_ptr<float>(), sizeof(values_));
  for (size_t i = 0; i < 255; ++i) limits_[i] = (values_[i] + values_[i + 1]) / 2;
  limits_[255] = INFINITY;
  first_.resize(size_t{1} << 17);
  for (uint32_t bits = 0; bits < first_.size(); ++bits) {
    float x;
    const uint32_t word = bits << 15;
    std::memcpy(&x, &word, sizeof(x));
    const auto above = std::lower_bound(limits_.begin(), limits_.end() - 1, x);
    first_[bits] = std::isnan(x) ? uint8_t{0} : static_cast<uint8_t>(above - limits_.begin());
  }
}

const DynamicCode& DynamicCode::of(bool is_signed) {
  static const DynamicCode with_sign(true), without(false);
  return is_signed ? with_sign : without;
}

at::Tensor DynamicCode::tensor(at::Device device) const { return tensor_.on(device); }

void DynamicCode::encode(const float* values, int64_t count, uint8_t* codes, float* scale) const {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
  *scale = largest > kSmallestScale ? largest : 0;
  const float inverse = *scale > 0 ? 1 / *scale : 0;
  for (int64_t i = 0; i < count; ++i) codes[i] = nearest(values[i] * inverse);
}

}  // namespace posttrain::core
