#include "models/weights.h"

#include <algorithm>
#include <sstream>

#include "core/error.h"
#include "core/tensor_file.h"
#include "core/transfer.h"
#include "models/nf4_file.h"

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

/** Shape of the tensor in the file. */
std::vector<int64_t> shape_of(const nn::Parameter& parameter, const WeightMapEntry& entry) {
  auto shape = parameter.sizes().vec();
  if (entry.row_count >= 0) shape[0] = entry.row_count;
  if (entry.transpose) std::reverse(shape.begin(), shape.end());
  return shape;
}

/** The entry of the header, whose shape and dtype are checked. */
const core::TensorEntry& found_in(const core::TensorFile& file, const std::string& path,
                                  const WeightMapEntry& entry, const std::vector<int64_t>& shape) {
  const auto* found = file.find(entry.name);
  if (found == nullptr)
    throw core::Error(core::ErrorCode::invalid_file, path + " has no tensor " + entry.name);
  if (found->shape != shape) {
    throw core::Error(core::ErrorCode::invalid_file, path + ": " + entry.name + " has shape " +
                                                         text_of(found->shape) +
                                                         ", the config expects " + text_of(shape));
  }
  if (!at::isFloatingType(core::scalar_type_of(found->dtype))) {
    throw core::Error(core::ErrorCode::invalid_file, path + ": " + entry.name + " has dtype " +
                                                         found->dtype +
                                                         ", weights must be F32, F16, BF16 or F64");
  }
  return *found;
}

void set_coded(nn::Parameter& parameter, const WeightMapEntry& entry, const at::Tensor& values,
               at::ScalarType dtype) {
  // Coded from the dtype in which they compute, as by transformers.
  const auto rows = core::on_host(entry.transpose ? values.t() : values, dtype);
  if (entry.coding == WeightMapEntry::Coding::none) {
    parameter.coded->set(entry.first_row, rows);
  } else {
    parameter.coded->set(entry.first_row, device::nf4_of(rows));
  }
}

}  // namespace

at::Tensor view_of(Role& role, const WeightMapEntry& entry, bool gradient) {
  auto& parameter = role.parameter(entry.parameter);
  TORCH_CHECK_VALUE(!gradient || parameter.coded == nullptr, "[weights] ", entry.name,
                    " is frozen in 4 bits and has no gradient");
  if (gradient) return view_of(parameter.gradient(), entry);
  return view_of(parameter.coded == nullptr ? parameter.exact() : parameter.values(), entry);
}

void set_values(Role& role, const WeightMapEntry& entry, const at::Tensor& values) {
  auto& parameter = role.parameter(entry.parameter);
  if (parameter.coded == nullptr) {
    view_of(parameter.exact(), entry).copy_(values);
    parameter.round();
  } else {
    auto kept = entry;
    const auto plain = parameter.coded->plain_rows();
    if (std::find(plain.begin(), plain.end(), entry.first_row) != plain.end())
      kept.coding = WeightMapEntry::Coding::none;
    set_coded(parameter, kept, values, role.base->dtype());
  }
}

std::vector<int64_t> shape_of(Role& role, const WeightMapEntry& entry) {
  return shape_of(role.parameter(entry.parameter), entry);
}

void load_weights(Role& role, const std::string& path, const std::vector<WeightMapEntry>& entries,
                  const core::Cancel& cancel) {
  const core::TensorFile file(path);
  std::map<std::string, core::TensorFile> others;
  for (const auto& entry : entries) {
    cancel.check();
    auto& parameter = role.parameter(entry.parameter);
    if (entry.coding == WeightMapEntry::Coding::in_file) {
      TORCH_CHECK_VALUE(parameter.coded != nullptr, "[weights] ", entry.parameter,
                        " is not in 4 bits");
      auto shape = parameter.sizes().vec();
      if (entry.row_count >= 0) shape[0] = entry.row_count;
      std::vector<const core::TensorFile*> files{&file};
      for (const auto& other : entry.companions)
        files.push_back(&others.try_emplace(other, other).first->second);
      parameter.coded->set(entry.first_row, read_nf4(files, path, entry.name, shape[0], shape[1]));
    } else {
      const auto& found = found_in(file, path, entry, shape_of(parameter, entry));
      if (parameter.coded == nullptr) {
        auto target = view_of(parameter.exact(), entry);
        file.read_into(found, target);
        parameter.round();
      } else {
        const auto values = file.read(found);
        if (core::number_of(at::isfinite(values).all()) == 0) {
          throw core::Error(core::ErrorCode::invalid_file,
                            path + ": " + entry.name +
                                " has a value that is not finite, which 4 bits cannot hold");
        }
        set_coded(parameter, entry, values, role.base->dtype());
      }
    }
  }
}

std::vector<bool> same_weights(Decoder& base, const std::string& path,
                               const std::vector<WeightMapEntry>& entries,
                               const core::Cancel& cancel) {
  const core::TensorFile file(path);
  std::vector<bool> same;
  for (const auto& entry : entries) {
    cancel.check();
    const auto& parameter = base.parameter(entry.parameter);
    const auto own = view_of(parameter.values(), entry);
    const auto tensor = file.read(found_in(file, path, entry, shape_of(parameter, entry)));
    same.push_back(at::equal(core::on_host(own, own.scalar_type()), tensor.to(own.scalar_type())));
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
                       [view, dtype] { return core::on_host(view, dtype); }});
  }
  core::write_tensor_file(path, tensors, metadata, cancel);
}

}  // namespace posttrain::models
