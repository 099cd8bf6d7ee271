#pragma once

/**
 * Marks a plain loop over float rows to be compiled for several instruction sets, chosen when the
 * library is loaded. The binary then runs on any x86-64 and is fast on newer ones; lambdas inside
 * such a function are not covered.
 */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define POSTTRAIN_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=haswell", "default")))
#else
#define POSTTRAIN_SIMD
#endif

#if defined(__GNUC__)
#define POSTTRAIN_INLINE inline __attribute__((always_inline))
#else
#define POSTTRAIN_INLINE inline
#endif

namespace posttrain::core {

/** exp for |x| <= 87 within 2 ulp; smaller x give 1e-38, NaN is not kept. Uses only operations that
 * vectorize. */
POSTTRAIN_INLINE float exp_f32(float x) {
  x = x > -87.0f ? x : -87.0f;
  x = x < 87.0f ? x : 87.0f;
  // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
  const float n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
  float r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int bits = (static_cast<int>(n) + 127) << 23;
  float scale;
  __builtin_memcpy(&scale, &bits, sizeof(scale));
  return p * scale;
}

}  // namespace posttrain::core
