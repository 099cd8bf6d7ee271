#include "models/weights.h"

#include <sstream>

#include "core/error.h"
#include "core/tensor_file.h"

namespace posttrain::models {
namespace {

std::string text_of(at::IntArrayRef shape) {
  std::ostringstream out;
  out << shape;
  return out.str();
}

at::Tensor view_of(at::Tensor view, const WeightMapEntry& entry) {
  if (entry.row_count >= 0) {
    TORCH_CHECK_VALUE(entry.first_row >= 0 && entry.first_row + entry.row_count <= view.size(0),
                      "[weights] rows ", entry.first_row, " + ", entry.row_count, " of ",
                      entry.parameter, " are outside its ", view.size(0), " rows");
    view = view.narrow(0, entry.first_row, entry.row_count);
  }
  return entry.transpose ? view.t() : view;
}

/** The tensor of the entry, of the shape of `target`. */
at::Tensor read(const core::TensorFile& file, const std::string& path, const WeightMapEntry& entry,
                const at::Tensor& target) {
  const auto* found = file.find(entry.name);
  if (found == nullptr)
    throw core::Error(core::ErrorCode::invalid_file, path + " has no tensor " + entry.name);
  if (at::IntArrayRef(found->shape) != target.sizes()) {
    throw core::Error(core::ErrorCode::invalid_file,
                      path + ": " + entry.name + " has shape " + text_of(found->shape) +
                          ", the config expects " + text_of(target.sizes()));
  }
  if (!at::isFloatingType(core::scalar_type_of(found->dtype))) {
    throw core::Error(core::ErrorCode::invalid_file, path + ": " + entry.name + " has dtype " +
                                                         found->dtype +
                                                         ", weights must be F32, F16, BF16 or F64");
  }
  return file.read(*found);
}

}  // namespace

at::Tensor view_of(Role& role, const WeightMapEntry& entry, bool gradient) {
  auto& parameter = role.parameter(entry.parameter);
  return view_of(gradient ? parameter.gradient() : parameter.value, entry);
}

void load_weights(Role& role, const std::string& path, const std::vector<WeightMapEntry>& entries,
                  const core::Cancel& cancel) {
  const core::TensorFile file(path);
  for (const auto& entry : entries) {
    cancel.check();
    auto target = view_of(role, entry, false);
    target.copy_(read(file, path, entry, target));
  }
}

std::vector<bool> same_weights(Decoder& base, const std::string& path,
                               const std::vector<WeightMapEntry>& entries,
                               const core::Cancel& cancel) {
  const core::TensorFile file(path);
  std::vector<bool> same;
  for (const auto& entry : entries) {
    cancel.check();
    const auto own = view_of(base.parameter(entry.parameter).value, entry);
    const auto tensor = read(file, path, entry, own);
    same.push_back(at::equal(own.to(at::kCPU), tensor.to(own.scalar_type())));
  }
  return same;
}

void save_weights(Role& role, const std::string& path, const std::vector<WeightMapEntry>& entries,
                  at::ScalarType dtype, const std::map<std::string, std::string>& metadata,
                  const core::Cancel& cancel) {
  std::vector<core::TensorToWrite> tensors;
  for (const auto& entry : entries) {
    const auto view = view_of(role, entry, false);
    tensors.push_back({entry.name, dtype, view.sizes().vec(),
                       [view, dtype] { return view.to(at::kCPU, dtype).contiguous(); }});
  }
  core::write_tensor_file(path, tensors, metadata, cancel);
}

}  // namespace posttrain::models
