#pragma once
#include <cstdint>
#include <vector>

namespace posttrain::core {

/**
 * out [T, N] = x [T, K] w^T of few tokens. The N rows of w begin `w_stride` floats apart and are
 * read once, while those that come next are fetched; those of out begin `out_stride` apart. A value
 * is summed in one order, whatever T and N.
 */
using MultiplyFew = void (*)(const float* w, int64_t w_stride, int64_t N, int64_t K, const float* x,
                             int64_t T, float* out, int64_t out_stride);
/** The ways to do so with the instruction sets of this processor, the best first. */
const std::vector<MultiplyFew>& ways_to_multiply_few();

inline void multiply_few(const float* w, int64_t w_stride, int64_t N, int64_t K, const float* x,
                         int64_t T, float* out, int64_t out_stride) {
  ways_to_multiply_few().front()(w, w_stride, N, K, x, T, out, out_stride);
}

}  // namespace posttrain::core
