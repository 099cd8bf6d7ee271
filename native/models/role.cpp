#include "models/role.h"

#include <cmath>

#include "core/philox.h"
#include "core/transfer.h"

namespace posttrain::models {

void Role::add_score(std::optional<uint64_t> seed) {
  const int64_t width = base->spec().hidden_size;
  auto score = std::make_unique<nn::Parameter>();
  score->name = "score.weight";
  auto values = at::zeros({1, width}, at::kFloat);
  if (seed.has_value()) {
    core::fill_normal(values.mutable_data_ptr<float>(), width, *seed, 0x5C0E);
    values.mul_(1 / std::sqrt(static_cast<double>(width) + 1));
  }
  score->value = core::on_device(values.to(base->dtype() == at::kDouble ? at::kDouble : at::kFloat),
                                 base->device());
  score_ = std::move(score);
}

nn::Parameter& Role::parameter(const std::string& name) {
  if (score_ != nullptr && name == score_->name) return *score_;
  if (adapter != nullptr) {
    if (auto* found = adapter->find(name)) return *found;
  }
  return base->parameter(name);
}

std::vector<nn::Parameter*> Role::parameters() {
  std::vector<nn::Parameter*> result;
  for (auto& parameter : base->parameters()) result.push_back(&parameter);
  if (adapter != nullptr) {
    for (auto& parameter : adapter->parameters()) result.push_back(&parameter);
  }
  if (score_ != nullptr) result.push_back(score_.get());
  return result;
}

void Role::zero_grad() {
  std::vector<at::Tensor> gradients;
  for (auto* parameter : parameters()) {
    if (parameter->grad.defined()) gradients.push_back(parameter->grad);
  }
  if (!gradients.empty()) at::_foreach_zero_(gradients);
  gradients_dirty = false;
}

}  // namespace posttrain::models
