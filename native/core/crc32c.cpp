#include "core/crc32c.h"

#include <array>
#include <cstring>

#if defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

namespace posttrain::core {
namespace {

/** Reflected: bit 31 is the constant term. */
constexpr uint32_t kPolynomial = 0x82F63B78u;

/** A polynomial times x, modulo kPolynomial. */
constexpr uint32_t times_x(uint32_t value) {
  return value & 1 ? value >> 1 ^ kPolynomial : value >> 1;
}

constexpr std::array<uint32_t, 256> table_of() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = times_x(value);
    table[byte] = value;
  }
  return table;
}
constexpr auto kTable = table_of();

uint32_t by_table(uint32_t state, const uint8_t* data, size_t count) {
  for (; count > 0; --count, ++data) state = state >> 8 ^ kTable[(state ^ *data) & 0xFF];
  return state;
}

#if defined(__x86_64__) && defined(__GNUC__)
#define POSTTRAIN_CRC32C 1
#define POSTTRAIN_CRC32C_TARGET __attribute__((target("sse4.2")))
POSTTRAIN_CRC32C_TARGET inline uint32_t next(uint32_t state, uint64_t word) {
  return static_cast<uint32_t>(__builtin_ia32_crc32di(state, word));
}
bool has_instruction() {
  static const bool has = __builtin_cpu_supports("sse4.2");
  return has;
}
#elif defined(__ARM_FEATURE_CRC32)
#define POSTTRAIN_CRC32C 1
#define POSTTRAIN_CRC32C_TARGET
inline uint32_t next(uint32_t state, uint64_t word) { return __crc32cd(state, word); }
constexpr bool has_instruction() { return true; }
#endif

#if defined(POSTTRAIN_CRC32C)
inline uint64_t word_at(const uint8_t* data) {
  uint64_t word;
  std::memcpy(&word, data, sizeof(word));
  return word;
}

// The instruction has three cycles of latency and one of throughput: three parts at a time.
POSTTRAIN_CRC32C_TARGET uint32_t by_instruction(uint32_t state, const uint8_t* data, size_t count) {
  if (count >= 4096) {
    const size_t part = count / 24 * 8;
    uint32_t second = 0, third = 0;
    for (size_t i = 0; i < part; i += 8) {
      state = next(state, word_at(data + i));
      second = next(second, word_at(data + part + i));
      third = next(third, word_at(data + 2 * part + i));
    }
    state = crc32c_joined(crc32c_joined(state, second, part), third, part);
    data += 3 * part;
    count -= 3 * part;
  }
  for (; count >= 8; count -= 8, data += 8) state = next(state, word_at(data));
  return by_table(state, data, count);
}
#endif

/** The product of two polynomials modulo kPolynomial. */
uint32_t product(uint32_t a, uint32_t b) {
  uint32_t result = 0;
  for (uint32_t bit = uint32_t{1} << 31; bit != 0; bit >>= 1) {
    if (a & bit) result ^= b;
    b = times_x(b);
  }
  return result;
}

}  // namespace

uint32_t crc32c(const void* data, size_t count) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  const uint32_t start = ~uint32_t{0};
#if defined(POSTTRAIN_CRC32C)
  if (has_instruction()) return ~by_instruction(start, bytes, count);
#endif
  return ~by_table(start, bytes, count);
}

uint32_t crc32c_joined(uint32_t first, uint32_t second, uint64_t second_count) {
  // Bytes behind it multiply a remainder by x^8 each.
  uint32_t power = uint32_t{1} << 23;
  for (; second_count > 0; second_count >>= 1) {
    if (second_count & 1) first = product(power, first);
    power = product(power, power);
  }
  return first ^ second;
}

}  // namespace posttrain::core
