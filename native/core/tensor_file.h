#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/tensor_header.h"

namespace posttrain::core {

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
  /** Reads the values into a tensor of the entry's shape: straight into its place where that has
   * the bytes of the file. */
  void read_into(const TensorEntry& entry, at::Tensor& target) const;

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

}  // namespace posttrain::core
