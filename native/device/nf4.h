#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "device/cuda_kernels/nf4_values.h"

namespace posttrain::device {

/** Values that share a scale, and scales that share one in turn. */
constexpr int64_t kNf4Block = 64, kNf4ScaleBlock = 256;

/** NormalFloat 4: quantiles of the normal distribution, with a 0, divided by the largest. */
constexpr std::array<float, 16> kNf4 = {POSTTRAIN_NF4_VALUES};

/**
 * A frozen matrix [rows, columns] in NormalFloat 4 with double quantization (Dettmers et al. 2023,
 * arXiv 2305.14314), in the layout of bitsandbytes: value i of the flattened matrix is
 * kNf4[code i] * scale[i / 64].
 */
struct Nf4 {
  int64_t rows = 0;
  int64_t columns = 0;
  /** uint8, two values a byte, the earlier one in the upper four bits. */
  at::Tensor codes;
  /** [blocks]: float32, or uint8 where they are quantized too: scale i is then
   * scale_code[scales[i]] * scale_scales[i / 256] + scale_offset. */
  at::Tensor scales;
  at::Tensor scale_code;    // float32 [256]
  at::Tensor scale_scales;  // float32
  /** float32 [256, 2] on the device: the two values of a byte. */
  at::Tensor values_of_byte;
  float scale_offset = 0;

  int64_t values() const { return rows * columns; }
  int64_t blocks() const { return (values() + kNf4Block - 1) / kNf4Block; }
  /** On a device, ready to be decoded there. */
  Nf4 on(at::Device device) const;
};

/** The matrix on the CPU, of float32, bfloat16 or float16 values, whose scales are quantized too.
 * Throws ValueError where a value is not finite. */
Nf4 nf4_of(const at::Tensor& matrix_RC);

/** float32 [blocks]. */
at::Tensor nf4_scales(const Nf4& matrix);

/** The values, float32 or half precision, in `out` [rows, columns]: by torch's operations. */
void nf4_values(const Nf4& matrix, at::Tensor& out_RC);

/** The same by a loop, for float32 on the CPU. */
void nf4_values_cpu(const Nf4& matrix, at::Tensor& out_RC);

/** out [T, rows] = x W^T of a few tokens x [T, columns], float32 on the CPU, without making W. */
void nf4_product_cpu(const Nf4& matrix, const at::Tensor& x_TC, at::Tensor& out_TR);

}  // namespace posttrain::device
