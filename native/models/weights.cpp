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

}  // namespace

at::Tensor view_of(Role& role, const WeightMapEntry& entry, bool gradient) {
  auto& parameter = role.parameter(entry.parameter);
  auto view = gradient ? parameter.gradient() : parameter.value;
  if (entry.row_count >= 0) {
    TORCH_CHECK_VALUE(entry.first_row >= 0 && entry.first_row + entry.row_count <= view.size(0),
                      "[weights] rows ", entry.first_row, " + ", entry.row_count, " of ",
                      entry.parameter, " are outside its ", view.size(0), " rows");
    view = view.narrow(0, entry.first_row, entry.row_count);
  }
  return entry.transpose ? view.t() : view;
}

void load_weights(Role& role, const std::string& path, const std::vector<WeightMapEntry>& entries,
                  const core::Cancel& cancel) {
  const core::TensorFile file(path);
  for (const auto& entry : entries) {
    cancel.check();
    const auto* found = file.find(entry.name);
    if (found == nullptr)
      throw core::Error(core::ErrorCode::invalid_file, path + " has no tensor " + entry.name);
    const auto target = view_of(role, entry, false);
    if (at::IntArrayRef(found->shape) != target.sizes()) {
      throw core::Error(core::ErrorCode::invalid_file,
                        path + ": " + entry.name + " has shape " + text_of(found->shape) +
                            ", the config expects " + text_of(target.sizes()));
    }
    if (!at::isFloatingType(core::scalar_type_of(found->dtype))) {
      throw core::Error(core::ErrorCode::invalid_file,
                        path + ": " + entry.name + " has dtype " + found->dtype +
                            ", weights must be F32, F16, BF16 or F64");
    }
    target.copy_(file.read(*found));
  }
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
