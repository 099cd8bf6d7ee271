#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/cancel.h"

namespace posttrain::core {

/** One tensor of a safetensors file; `begin` and `end` are byte offsets from the start of the file.
 */
struct TensorEntry {
  std::string name;
  std::string dtype;  // name in safetensors: F32, BF16, ...
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

/** A validated safetensors header, parsed from bytes (it can be fuzzed without files). Throws
 * Error(ERR_INVALID_FILE). */
struct TensorHeader {
  std::vector<TensorEntry> entries;  // in order of their offsets
  std::map<std::string, std::string> metadata;
  static TensorHeader parse(const uint8_t* bytes, size_t length, uint64_t file_size,
                            const std::string& where);
};

/** A safetensors file opened for reading: header checked, data read by parallel pread. */
class TensorFile {
 public:
  explicit TensorFile(const std::string& path);
  ~TensorFile();
  TensorFile(const TensorFile&) = delete;
  TensorFile& operator=(const TensorFile&) = delete;

  const TensorHeader& header() const { return header_; }
  /** Null for an unknown name. */
  const TensorEntry* find(const std::string& name) const;
  /** A CPU tensor of the file's own dtype and shape. */
  at::Tensor read(const TensorEntry& entry) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  TensorHeader header_;
  std::map<std::string, size_t> index_;
};

/** A tensor to be written; `produce` is called when its turn comes and returns a contiguous CPU
 * tensor of that dtype and shape. */
struct TensorToWrite {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  std::function<at::Tensor()> produce;
};

/** Writes and syncs one safetensors file at `path` (truncating it); the caller renames. Throws
 * Error(ERR_IO) and removes the file on failure. */
void write_tensor_file(const std::string& path, const std::vector<TensorToWrite>& tensors,
                       const std::map<std::string, std::string>& metadata, const Cancel& cancel);

/** F32 <-> at::kFloat and so on; throws Error(ERR_INVALID_FILE) for an unsupported dtype. */
at::ScalarType scalar_type_of(const std::string& dtype);
std::string dtype_name_of(at::ScalarType type);

}  // namespace posttrain::core
