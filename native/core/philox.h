#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace posttrain::core {

/** Purpose of a random stream; two purposes never share numbers. */
enum class Stream : uint32_t { initialization = 1, sampling = 2, dropout = 3 };

/** Philox4x32-10 (Salmon et al. 2011, 'Parallel random numbers: as easy as 1, 2, 3'). */
inline std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter,
                                          std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

inline std::array<uint32_t, 2> philox_key(uint64_t seed) {
  return {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
}

/** Uniform in [0, 1), 53 bits, from (seed, stream, row, position) alone. */
inline double uniform(uint64_t seed, Stream stream, uint32_t row, uint32_t position) {
  const auto bits = philox4x32({position, row, 0, static_cast<uint32_t>(stream)}, philox_key(seed));
  return static_cast<double>(((uint64_t{bits[0]} << 32) | bits[1]) >> 11) * 0x1.0p-53;
}

/** Standard normals (Box and Muller 1958); value i depends on (seed, index, i) alone. */
inline void fill_normal(float* values, int64_t count, uint64_t seed, uint32_t index) {
  const auto key = philox_key(seed);
  for (int64_t i = 0; i < count; i += 4) {
    const auto block = static_cast<uint64_t>(i) / 4;
    const auto bits = philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                                  index, static_cast<uint32_t>(Stream::initialization)},
                                 key);
    for (int64_t pair = 0; pair < 2; ++pair) {
      const double u = (static_cast<double>(bits[2 * pair]) + 1.0) * 0x1.0p-32;  // (0, 1]
      const double angle =
          2 * std::numbers::pi * static_cast<double>(bits[2 * pair + 1]) * 0x1.0p-32;
      const double radius = std::sqrt(-2 * std::log(u));
      const double normals[2] = {radius * std::cos(angle), radius * std::sin(angle)};
      for (int64_t j = 0; j < 2; ++j) {
        if (i + 2 * pair + j < count) values[i + 2 * pair + j] = static_cast<float>(normals[j]);
      }
    }
  }
}

/** Uniforms in [-bound, bound); value i depends on (seed, index, i) alone. */
inline void fill_uniform(float* values, int64_t count, double bound, uint64_t seed,
                         uint32_t index) {
  const auto key = philox_key(seed);
  for (int64_t i = 0; i < count; i += 4) {
    const auto block = static_cast<uint64_t>(i) / 4;
    const auto bits = philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                                  index, static_cast<uint32_t>(Stream::initialization)},
                                 key);
    for (int64_t j = 0; j < 4 && i + j < count; ++j) {
      const double u = static_cast<double>(bits[j]) * 0x1.0p-32;
      values[i + j] = static_cast<float>((2 * u - 1) * bound);
    }
  }
}

/** 0 with probability p, else 1 / (1 - p); value i depends on (seed, index, i) alone. */
inline void fill_dropout(float* values, int64_t count, double p, uint64_t seed, uint32_t index) {
  const auto key = philox_key(seed);
  const float kept = static_cast<float>(1 / (1 - p));
  for (int64_t i = 0; i < count; i += 4) {
    const auto block = static_cast<uint64_t>(i) / 4;
    const auto bits = philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                                  index, static_cast<uint32_t>(Stream::dropout)},
                                 key);
    for (int64_t j = 0; j < 4 && i + j < count; ++j)
      values[i + j] = static_cast<double>(bits[j]) * 0x1.0p-32 < p ? 0.0f : kept;
  }
}

}  // namespace posttrain::core
