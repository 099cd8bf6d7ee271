#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "core/transfer.h"

namespace posttrain::core {

/** A scale without a finite inverse counts as zero: 2^-128, whose inverse is infinite in float32.
 */
constexpr float kSmallestScale = 2.9387359e-39f;

/**
 * The dynamic code of block-wise quantization (Dettmers et al. 2022, arXiv 2110.02861; the values
 * of bitsandbytes): 0, 1, and magnitudes of 1e-7 to 1 in seven decades, each with twice as many
 * values as the one below. 256 values in [-1, 1], or in [0, 1], ascending.
 */
class DynamicCode {
 public:
  explicit DynamicCode(bool is_signed);
  /** The code of signed values, or of values that are never negative; made once. */
  static const DynamicCode& of(bool is_signed);

  const std::array<float, 256>& values() const { return values_; }
  /** float32 [256] on a device, uploaded once. */
  at::Tensor tensor(at::Device device = at::kCPU) const;
  /** The code of the value nearest to x in [-1, 1]. */
  uint8_t nearest(float x) const {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof(bits));
    uint8_t code = first_[bits >> 15];
    // Within the bits that the table leaves out a magnitude grows, so that a negative number falls.
    if (x > limits_[code]) ++code;
    if (code > 0 && x <= limits_[code - 1]) --code;
    return code;
  }
  /** Codes `count` values that share a scale, their largest magnitude. */
  void encode(const float* values, int64_t count, uint8_t* codes, float* scale) const;

 private:
  std::array<float, 256> values_;
  mutable Constant tensor_;
  /** Halfway between a value and the next: a number above it is nearer to the next. */
  std::array<float, 256> limits_;
  /** By the upper 17 bits of a float, its sign, exponent and 8 bits of its fraction: the code of
   * the smallest magnitude among them. No two limits share those bits. */
  std::vector<uint8_t> first_;
};

}  // namespace posttrain::core
