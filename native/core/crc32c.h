#pragma once
#include <cstddef>
#include <cstdint>

namespace posttrain::core {

/** CRC-32C (Castagnoli) of bytes, by the processor's own instruction where it has one. */
uint32_t crc32c(const void* data, size_t count);

/** That of bytes and more bytes behind them, from those of both parts. */
uint32_t crc32c_joined(uint32_t first, uint32_t second, uint64_t second_count);

}  // namespace posttrain::core
