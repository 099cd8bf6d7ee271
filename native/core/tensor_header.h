#pragma once
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace posttrain::core {

/** One tensor of a safetensors file; `begin` and `end` are byte offsets from the start of the file.
 */
struct TensorEntry {
  std::string name;
  std::string dtype;  // name in safetensors: F32, BF16, ...
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
  /** CRC-32C of its bytes, where the file has one. */
  std::optional<uint32_t> checksum;
};

/** Key of the metadata under which our files have checksums, eight digits each: that of the layout,
 * then those of the tensors in the order of their offsets. Other readers pass over it; where the
 * layout is another, a program that rewrote the file kept it, and it says nothing. */
constexpr const char* kChecksums = "posttrain.crc32c";

/** A validated safetensors header, parsed from bytes (it can be fuzzed without files). Throws
 * Error(ERR_INVALID_FILE). */
struct TensorHeader {
  std::vector<TensorEntry> entries;  // in order of their offsets
  std::map<std::string, std::string> metadata;
  static TensorHeader parse(const uint8_t* bytes, size_t length, uint64_t file_size,
                            const std::string& where);
};

/** CRC-32C of the names, dtypes and shapes of tensors in the order of their data. */
uint32_t checksum_of_layout(const std::vector<TensorEntry>& entries);

/** F32 <-> at::kFloat and so on; throws Error(ERR_INVALID_FILE) for an unsupported dtype. */
at::ScalarType scalar_type_of(const std::string& dtype);
std::string dtype_name_of(at::ScalarType type);

}  // namespace posttrain::core
