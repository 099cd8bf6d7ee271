#include "core/few_tokens.h"

#include <algorithm>
#include <cstring>

#include "core/simd.h"

namespace posttrain::core {

namespace {

#if defined(__GNUC__)

/** Floats of a row that are summed in registers at once: the rows of a tile stay in the L1 cache.
 */
constexpr int64_t kPiece = 768;
/** Rows of w in a tile, and in what is fetched ahead. */
constexpr int kRows = 4;
/** Rows of w that stay in the L2 cache. */
constexpr int64_t kPanel = 32;
/** Floats that stay in the L1 cache beside what goes by. */
constexpr int64_t kInL1 = 7168;

template <int Lanes>
struct Vectors {
  typedef float Floats __attribute__((vector_size(Lanes * sizeof(float))));
  typedef int32_t Ints __attribute__((vector_size(Lanes * sizeof(float))));
};

#if defined(__clang__)
#define POSTTRAIN_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define POSTTRAIN_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Ints{__VA_ARGS__})
#endif

// The sums of four vectors, each halved until four lanes are left, then (0 + 2) + (1 + 3)
template <int Lanes>
POSTTRAIN_INLINE void sums_of(const typename Vectors<Lanes>::Floats (&v)[4], float (&sums)[4]) {
  typedef typename Vectors<Lanes>::Floats Floats;
  typedef typename Vectors<Lanes>::Ints Ints;
  if constexpr (Lanes == 16) {
    const Floats ab =
        POSTTRAIN_SHUFFLE(v[0], v[1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
        POSTTRAIN_SHUFFLE(v[0], v[1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    const Floats cd =
        POSTTRAIN_SHUFFLE(v[2], v[3], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
        POSTTRAIN_SHUFFLE(v[2], v[3], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    Floats all =
        POSTTRAIN_SHUFFLE(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
        POSTTRAIN_SHUFFLE(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    all += POSTTRAIN_SHUFFLE(all, all, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    all += POSTTRAIN_SHUFFLE(all, all, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    for (int i = 0; i < 4; ++i) sums[i] = all[4 * i];
  } else if constexpr (Lanes == 8) {
    const Floats ab = POSTTRAIN_SHUFFLE(v[0], v[1], 0, 1, 2, 3, 8, 9, 10, 11) +
                      POSTTRAIN_SHUFFLE(v[0], v[1], 4, 5, 6, 7, 12, 13, 14, 15);
    const Floats cd = POSTTRAIN_SHUFFLE(v[2], v[3], 0, 1, 2, 3, 8, 9, 10, 11) +
                      POSTTRAIN_SHUFFLE(v[2], v[3], 4, 5, 6, 7, 12, 13, 14, 15);
    const Floats acbd = POSTTRAIN_SHUFFLE(ab, cd, 0, 1, 8, 9, 4, 5, 12, 13) +
                        POSTTRAIN_SHUFFLE(ab, cd, 2, 3, 10, 11, 6, 7, 14, 15);
    const Floats all = acbd + POSTTRAIN_SHUFFLE(acbd, acbd, 1, 0, 3, 2, 5, 4, 7, 6);
    sums[0] = all[0], sums[1] = all[4], sums[2] = all[2], sums[3] = all[6];
  } else {
    const Floats ab =
        POSTTRAIN_SHUFFLE(v[0], v[1], 0, 1, 4, 5) + POSTTRAIN_SHUFFLE(v[0], v[1], 2, 3, 6, 7);
    const Floats cd =
        POSTTRAIN_SHUFFLE(v[2], v[3], 0, 1, 4, 5) + POSTTRAIN_SHUFFLE(v[2], v[3], 2, 3, 6, 7);
    const Floats all =
        POSTTRAIN_SHUFFLE(ab, cd, 0, 2, 4, 6) + POSTTRAIN_SHUFFLE(ab, cd, 1, 3, 5, 7);
    for (int i = 0; i < 4; ++i) sums[i] = all[i];
  }
}

/** `size` floats from one place on of kRows rows of w, and those to fetch meanwhile. */
struct Piece {
  const float* w;
  int64_t w_stride, size;
  bool first;
  const float* ahead[kRows];
  int64_t ahead_count;
};

// out[t, r] = or += the sum over a piece of w[r] x[t], for kRows rows r and `Tokens` tokens t.
// Where fewer rows are left, `rows` of them; the others repeat the first.
template <int Lanes, int Tokens>
POSTTRAIN_INLINE void tile(const Piece& piece, int rows, const float* x, int64_t K, float* out,
                           int64_t stride) {
  typedef typename Vectors<Lanes>::Floats Floats;
  const int64_t size = piece.size;
  const float* w[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) w[r] = piece.w + (r < rows ? r : 0) * piece.w_stride;
  Floats sum[Tokens][kRows] = {};
  int64_t k = 0;
  for (; k + Lanes <= size; k += Lanes) {
    Floats xk[Tokens];
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) std::memcpy(&xk[t], x + t * K + k, sizeof(Floats));
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      Floats wk;
      std::memcpy(&wk, w[r] + k, sizeof(wk));
#pragma GCC unroll 8
      for (int t = 0; t < Tokens; ++t) sum[t][r] += wk * xk[t];
    }
    if (k % 16 == 0) {
      for (int64_t i = 0; i < piece.ahead_count; ++i) __builtin_prefetch(piece.ahead[i] + k, 0, 2);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < Tokens; ++t) {
    float sums[kRows];
    sums_of<Lanes>(sum[t], sums);
    float* to = out + t * stride;
    for (int r = 0; r < rows; ++r) {
      for (int64_t j = k; j < size; ++j) sums[r] += w[r][j] * x[t * K + j];
      to[r] = piece.first ? sums[r] : to[r] + sums[r];
    }
  }
}

template <int Lanes, int Most>
POSTTRAIN_INLINE void tile_of(int64_t tokens, const Piece& piece, int rows, const float* x,
                              int64_t K, float* out, int64_t stride) {
  switch (std::min<int64_t>(Most, tokens)) {
    case 6:
      if constexpr (Most >= 6) tile<Lanes, 6>(piece, rows, x, K, out, stride);
      break;
    case 5:
      if constexpr (Most >= 6) tile<Lanes, 5>(piece, rows, x, K, out, stride);
      break;
    case 4:
      if constexpr (Most >= 6) tile<Lanes, 4>(piece, rows, x, K, out, stride);
      break;
    case 3:
      tile<Lanes, 3>(piece, rows, x, K, out, stride);
      break;
    case 2:
      tile<Lanes, 2>(piece, rows, x, K, out, stride);
      break;
    default:
      tile<Lanes, 1>(piece, rows, x, K, out, stride);
  }
}

template <int Lanes, int Most>
POSTTRAIN_INLINE void multiply(const float* w, int64_t w_stride, int64_t N, int64_t K,
                               const float* x, int64_t T, float* out, int64_t out_stride) {
  const int64_t longest = std::min(K, kPiece);
  // Tokens that stay in the L1 cache while a panel of w goes by; with more of them the panel, which
  // stays in L2, goes by again.
  const int64_t group = 2 * Most * longest <= kInL1 ? 2 * Most : Most;
  const int64_t panel = T <= group ? kRows : kPanel;
  for (int64_t begin = 0; begin < N; begin += panel) {
    const int64_t end = std::min(N, begin + panel);
    for (int64_t k = 0; k < K; k += kPiece) {
      // Fetched meanwhile: these rows go on, or the next begin.
      const bool goes_on = k + kPiece < K;
      const float* next = goes_on ? w + begin * w_stride + k + kPiece : w + end * w_stride;
      const int64_t next_rows = goes_on ? end - begin : std::min(panel, N - end);
      const int64_t tiles = (T + Most - 1) / Most * ((end - begin + kRows - 1) / kRows);
      int64_t done = 0;
      for (int64_t first = 0; first < T; first += group) {
        const int64_t last = std::min(T, first + group);
        for (int64_t n = begin; n < end; n += kRows) {
          const int rows = static_cast<int>(std::min<int64_t>(kRows, end - n));
          Piece piece{w + n * w_stride + k, w_stride, std::min(kPiece, K - k), k == 0, {}, 0};
          for (int64_t t = first; t < last; t += Most, ++done) {
            piece.ahead_count = 0;
            for (int64_t r = done; r < next_rows && piece.ahead_count < kRows; r += tiles)
              piece.ahead[piece.ahead_count++] = next + r * w_stride;
            tile_of<Lanes, Most>(last - t, piece, rows, x + t * K + k, K, out + t * out_stride + n,
                                 out_stride);
          }
        }
      }
    }
  }
}

void multiply_128(const float* w, int64_t w_stride, int64_t N, int64_t K, const float* x, int64_t T,
                  float* out, int64_t out_stride) {
  multiply<4, 3>(w, w_stride, N, K, x, T, out, out_stride);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void multiply_256(const float* w, int64_t w_stride, int64_t N,
                                                      int64_t K, const float* x, int64_t T,
                                                      float* out, int64_t out_stride) {
  multiply<8, 3>(w, w_stride, N, K, x, T, out, out_stride);
}

__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma"))) void multiply_512(
    const float* w, int64_t w_stride, int64_t N, int64_t K, const float* x, int64_t T, float* out,
    int64_t out_stride) {
  multiply<16, 6>(w, w_stride, N, K, x, T, out, out_stride);
}
#endif

std::vector<MultiplyFew> ways() {
  std::vector<MultiplyFew> found;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
    found.push_back(multiply_512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    found.push_back(multiply_256);
#endif
  found.push_back(multiply_128);
  return found;
}

#else

void multiply_plain(const float* w, int64_t w_stride, int64_t N, int64_t K, const float* x,
                    int64_t T, float* out, int64_t out_stride) {
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t n = 0; n < N; ++n) {
      float sum = 0;
      for (int64_t k = 0; k < K; ++k) sum += w[n * w_stride + k] * x[t * K + k];
      out[t * out_stride + n] = sum;
    }
  }
}

std::vector<MultiplyFew> ways() { return {multiply_plain}; }

#endif

}  // namespace

const std::vector<MultiplyFew>& ways_to_multiply_few() {
  static const auto found = ways();
  return found;
}

}  // namespace posttrain::core
