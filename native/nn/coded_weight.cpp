#include "nn/coded_weight.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/matmul.h"
#include "core/transfer.h"

namespace posttrain::nn {

CodedWeight::CodedWeight(int64_t out, int64_t in, const at::TensorOptions& options,
                         const device::Kernels* kernels)
    : sizes_{out, in}, options_(options), kernels_(kernels) {}

void CodedWeight::put(Part part) {
  const auto same = std::find_if(parts_.begin(), parts_.end(), [&](const Part& known) {
    return known.first < part.first + part.rows && part.first < known.first + known.rows;
  });
  if (same != parts_.end()) {
    TORCH_CHECK_VALUE(same->first == part.first && same->rows == part.rows,
                      "[nf4] rows that were coded together can only be replaced together");
    *same = std::move(part);
    return;
  }
  const auto after = std::find_if(parts_.begin(), parts_.end(),
                                  [&](const Part& known) { return known.first > part.first; });
  parts_.insert(after, std::move(part));
}

void CodedWeight::set(int64_t first, device::Nf4 rows) {
  const int64_t count = rows.rows;
  put({first, count, rows.on(options_.device())});
}

void CodedWeight::set(int64_t first, const at::Tensor& rows) {
  const auto values = rows.to(options_.dtype().toScalarType()).clone();
  put({first, rows.size(0), core::on_device(values, options_.device())});
}

std::vector<int64_t> CodedWeight::plain_rows() const {
  std::vector<int64_t> result;
  for (const auto& part : parts_)
    if (std::holds_alternative<at::Tensor>(part.content)) result.push_back(part.first);
  return result;
}

at::Tensor CodedWeight::values() const {
  int64_t covered = 0;
  for (const auto& part : parts_) covered += part.rows;
  auto result = covered == sizes_[0] ? at::empty(sizes_, options_) : at::zeros(sizes_, options_);
  for (const auto& [first, rows, content] : parts_) {
    auto to = result.narrow(0, first, rows);
    if (const auto* coded = std::get_if<device::Nf4>(&content)) {
      kernels_->nf4_values(*coded, to);
    } else {
      to.copy_(std::get<at::Tensor>(content));
    }
  }
  return result;
}

at::Tensor CodedWeight::product(const at::Tensor& x_TI) const {
  const auto few = [&](const Part& part) {
    const auto* coded = std::get_if<device::Nf4>(&part.content);
    return coded == nullptr || coded->columns % device::kNf4Block == 0;
  };
  if (kernels_->nf4_product == nullptr || x_TI.size(0) > kernels_->nf4_tokens ||
      !std::all_of(parts_.begin(), parts_.end(), few))
    return core::product(x_TI, values().t());
  auto result = at::zeros({x_TI.size(0), sizes_[0]}, options_);
  for (const auto& [first, rows, content] : parts_) {
    auto to = result.narrow(1, first, rows);
    if (const auto* coded = std::get_if<device::Nf4>(&content)) {
      kernels_->nf4_product(*coded, x_TI, to);
    } else {
      to.copy_(core::product(x_TI, std::get<at::Tensor>(content).t()));
    }
  }
  return result;
}

}  // namespace posttrain::nn
