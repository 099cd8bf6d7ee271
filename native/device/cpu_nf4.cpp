#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/simd.h"
#include "device/nf4.h"

namespace posttrain::device {
namespace {

#if defined(__GNUC__) && !defined(__clang__)
#define POSTTRAIN_HAS_SHUFFLE 1
typedef float Floats8 __attribute__((vector_size(32)));
typedef int32_t Ints8 __attribute__((vector_size(32)));
typedef uint8_t Bytes8 __attribute__((vector_size(8)));
typedef uint16_t Words8 __attribute__((vector_size(16)));
#endif

// Values of `blocks` whole blocks
POSTTRAIN_SIMD void decode_blocks(const uint8_t* codes, const float* scales, float* out,
                                  int64_t blocks) {
#if defined(POSTTRAIN_HAS_SHUFFLE)
  Floats8 low, high;
  std::memcpy(&low, kNf4.data(), sizeof(low));
  std::memcpy(&high, kNf4.data() + 8, sizeof(high));
  for (int64_t block = 0; block < blocks; ++block) {
    const float scale = scales[block];
    const uint8_t* from = codes + block * (kNf4Block / 2);
    float* to = out + block * kNf4Block;
    for (int64_t i = 0; i < kNf4Block / 2; i += 8) {
      Bytes8 bytes;
      std::memcpy(&bytes, from + i, sizeof(bytes));
      const Words8 words = __builtin_convertvector(bytes, Words8);
      // The upper four bits of a byte come first.
      const Words8 parted = (words >> 4) | ((words & 15) << 8);
      Bytes8 places[2];
      std::memcpy(places, &parted, sizeof(places));
      for (int64_t half = 0; half < 2; ++half) {
        const Ints8 at = __builtin_convertvector(places[half], Ints8);
        const Floats8 values = __builtin_shuffle(low, high, at) * scale;
        std::memcpy(to + 2 * i + 8 * half, &values, sizeof(values));
      }
    }
  }
#else
  for (int64_t i = 0; i < blocks * kNf4Block / 2; ++i) {
    const float scale = scales[2 * i / kNf4Block];
    out[2 * i] = kNf4[codes[i] >> 4] * scale;
    out[2 * i + 1] = kNf4[codes[i] & 15] * scale;
  }
#endif
}

POSTTRAIN_SIMD void dots(const float* weights, const float* x, int64_t tokens, int64_t columns,
                         float* out, int64_t out_stride) {
  for (int64_t t = 0; t < tokens; ++t) {
    const float* xt = x + t * columns;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < columns; ++i) sum += weights[i] * xt[i];
    out[t * out_stride] = sum;
  }
}

}  // namespace

void nf4_values_cpu(const Nf4& matrix, at::Tensor& out_RC) {
  const auto scales = nf4_scales(matrix);
  const auto* of_blocks = scales.const_data_ptr<float>();
  const auto* codes = matrix.codes.const_data_ptr<uint8_t>();
  auto* out = out_RC.mutable_data_ptr<float>();
  const int64_t count = matrix.values(), full = count / kNf4Block;
  at::parallel_for(0, full, 512, [&](int64_t begin, int64_t end) {
    decode_blocks(codes + begin * (kNf4Block / 2), of_blocks + begin, out + begin * kNf4Block,
                  end - begin);
  });
  for (int64_t i = full * kNf4Block; i < count; ++i) {
    const uint8_t byte = codes[i / 2];
    out[i] = kNf4[i % 2 == 0 ? byte >> 4 : byte & 15] * of_blocks[full];
  }
}

void nf4_product_cpu(const Nf4& matrix, const at::Tensor& x_TC, at::Tensor& out_TR) {
  const auto scales = nf4_scales(matrix);
  const auto x = x_TC.contiguous();
  const int64_t columns = matrix.columns, blocks = columns / kNf4Block;
  at::parallel_for(0, matrix.rows, 32, [&](int64_t begin, int64_t end) {
    std::vector<float> weights(columns);
    for (int64_t row = begin; row < end; ++row) {
      decode_blocks(matrix.codes.const_data_ptr<uint8_t>() + row * columns / 2,
                    scales.const_data_ptr<float>() + row * blocks, weights.data(), blocks);
      dots(weights.data(), x.const_data_ptr<float>(), x.size(0), columns,
           out_TR.mutable_data_ptr<float>() + row, out_TR.stride(0));
    }
  });
}

}  // namespace posttrain::device
