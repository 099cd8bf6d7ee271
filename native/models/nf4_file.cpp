#include "models/nf4_file.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/transfer.h"

namespace posttrain::models {
namespace {

class Reader {
 public:
  Reader(const std::vector<const core::TensorFile*>& files, const std::string& path,
         const std::string& name)
      : files_(files), path_(path), name_(name) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw core::Error(core::ErrorCode::invalid_file, path_ + ": " + name_ + what);
  }
  bool has(const std::string& part) const {
    return std::any_of(files_.begin(), files_.end(),
                       [&](const auto* file) { return file->find(name_ + part) != nullptr; });
  }
  at::Tensor read(const std::string& part) const {
    for (const auto* file : files_) {
      if (const auto* found = file->find(name_ + part)) return file->read(*found);
    }
    fail(part + " is missing, which a weight in 4 bits needs");
  }
  /** A flat tensor of so many values. */
  at::Tensor flat(const std::string& part, at::ScalarType dtype, int64_t count) const {
    const auto tensor = read(part).view(-1);
    if (tensor.scalar_type() != dtype || tensor.numel() != count) {
      fail(part + " must have " + std::to_string(count) + " values of " + c10::toString(dtype) +
           ", got " + std::to_string(tensor.numel()) + " of " +
           c10::toString(tensor.scalar_type()));
    }
    return tensor;
  }
  /** The bytes of a tensor of any dtype, in which codes may be stored. */
  at::Tensor bytes(const std::string& part, int64_t count) const {
    const auto tensor = read(part);
    if (static_cast<int64_t>(tensor.nbytes()) != count)
      fail(" must have " + std::to_string(count) + " bytes, got " +
           std::to_string(tensor.nbytes()));
    return tensor.view(-1).view(at::kByte);
  }
  at::Tensor finite(const std::string& part, int64_t count) const {
    const auto tensor = flat(part, at::kFloat, count);
    if (core::number_of(at::isfinite(tensor).all()) == 0)
      fail(part + " has a value that is not finite");
    return tensor;
  }
  /** The bytes of a tensor. */
  std::string text(const std::string& part) const {
    const auto tensor = read(part);
    if (tensor.scalar_type() != at::kByte) fail(part + " must be bytes");
    return {static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()};
  }
  /** Whether the flat JSON gives the shape. */
  bool has_shape(const std::string& json, int64_t rows, int64_t columns) const {
    std::string compact;
    for (const char c : json)
      if (c != ' ') compact += c;
    return compact.find("\"shape\":[" + std::to_string(rows) + "," + std::to_string(columns) +
                        "]") != std::string::npos;
  }
  /** A number in the flat JSON that describes the weight. */
  double number(const std::string& json, const std::string& key) const {
    auto at = json.find('"' + key + '"');
    if (at != std::string::npos) at = json.find_first_not_of(" :", at + key.size() + 2);
    double value = NAN;
    if (at != std::string::npos)
      std::from_chars(json.data() + at, json.data() + json.size(), value);
    if (!std::isfinite(value)) fail(kState + std::string(" has no number ") + key);
    return value;
  }

  static constexpr const char* kState = ".quant_state.bitsandbytes__nf4";

 private:
  const std::vector<const core::TensorFile*>& files_;
  const std::string& path_;
  const std::string& name_;
};

}  // namespace

device::Nf4 read_nf4(const std::vector<const core::TensorFile*>& files, const std::string& path,
                     const std::string& name, int64_t rows, int64_t columns) {
  const Reader reader(files, path, name);
  device::Nf4 result{rows, columns};
  result.codes = reader.bytes("", (result.values() + 1) / 2);
  const auto state = reader.text(Reader::kState);
  if (!reader.has_shape(state, rows, columns))
    reader.fail(Reader::kState + std::string(" gives another shape than [") + std::to_string(rows) +
                ", " + std::to_string(columns) + "]");
  if (reader.number(state, "blocksize") != device::kNf4Block)
    reader.fail(" is in blocks of another size than 64");
  const auto table = reader.finite(".quant_map", 16);
  const auto known = at::tensor(at::ArrayRef<float>(device::kNf4.data(), device::kNf4.size()));
  if (!at::allclose(table, known, 0, 1e-6)) reader.fail(".quant_map has other values than NF4");
  if (!reader.has(".nested_absmax")) {
    result.scales = reader.finite(".absmax", result.blocks());
    return result;
  }
  if (reader.number(state, "nested_blocksize") != device::kNf4ScaleBlock)
    reader.fail(" has scales in blocks of another size than 256");
  result.scales = reader.flat(".absmax", at::kByte, result.blocks());
  result.scale_code = reader.finite(".nested_quant_map", 256);
  result.scale_scales = reader.finite(
      ".nested_absmax", (result.blocks() + device::kNf4ScaleBlock - 1) / device::kNf4ScaleBlock);
  result.scale_offset = static_cast<float>(reader.number(state, "nested_offset"));
  if (core::number_of(at::isfinite(device::nf4_scales(result)).all()) == 0)
    reader.fail(" has a scale that is not finite");
  return result;
}

}  // namespace posttrain::models
