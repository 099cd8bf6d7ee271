#include "models/adapter.h"

#include <cmath>

#include "core/philox.h"

namespace posttrain::models {
namespace {

std::vector<nn::LowRank>& modules_of(BlockModules& block, const std::string& linear) {
  if (linear == "qkv") return block.qkv;
  if (linear == "out") return block.out;
  return linear == "up" ? block.up : block.down;
}

}  // namespace

BlockAdapter ActiveAdapter::block(size_t i) const {
  return adapter == nullptr ? BlockAdapter{} : BlockAdapter{&adapter->block(i), dropout_seed};
}

Adapter::Adapter(std::shared_ptr<Decoder> base, AdapterSpec spec)
    : base_(std::move(base)), spec_(std::move(spec)) {
  TORCH_CHECK_VALUE(spec_.rank > 0, "[adapter] rank must be at least 1, got ", spec_.rank);
  TORCH_CHECK_VALUE(std::isfinite(spec_.scale) && spec_.scale > 0,
                    "[adapter] the scale must be finite and above 0, got ", spec_.scale);
  TORCH_CHECK_VALUE(spec_.dropout >= 0 && spec_.dropout < 1,
                    "[adapter] dropout must be in [0, 1), got ", spec_.dropout);
  TORCH_CHECK_VALUE(!spec_.dora || spec_.dropout == 0,
                    "[adapter] DoRA cannot be combined with dropout");
  TORCH_CHECK_VALUE(!spec_.modules.empty(), "[adapter] no modules to adapt");
  const auto options = at::TensorOptions()
                           .dtype(base_->dtype() == at::kDouble ? at::kDouble : at::kFloat)
                           .device(base_->device());
  const auto add = [&](const std::string& name, at::IntArrayRef shape) {
    auto& parameter = parameters_.emplace_back();
    parameter.name = name;
    parameter.value = at::zeros(shape, options);
    index_[name] = parameters_.size() - 1;
    return &parameter;
  };
  blocks_.resize(base_->spec().layers.size());
  uint32_t stream = 0;
  for (const auto& module : spec_.modules) {
    const auto& weight = base_->linear(static_cast<size_t>(module.layer), module.linear).weight;
    const int64_t rows = module.rows < 0 ? weight->value.size(0) : module.rows;
    TORCH_CHECK_VALUE(module.first_row >= 0 && module.first_row + rows <= weight->value.size(0),
                      "[adapter] the rows of ", module.name, " are outside its layer");
    TORCH_CHECK_VALUE(!index_.contains(module.name + ".lora_A"), "[adapter] ", module.name,
                      " is listed twice");
    nn::LowRank low{module.first_row, rows};
    low.a = add(module.name + ".lora_A", {spec_.rank, weight->value.size(1)});
    low.b = add(module.name + ".lora_B", {rows, spec_.rank});
    if (spec_.dora) low.magnitude = add(module.name + ".lora_magnitude_vector", {rows});
    low.scale = spec_.scale;
    low.dropout = spec_.dropout;
    low.stream = stream++;
    modules_of(blocks_[static_cast<size_t>(module.layer)], module.linear).push_back(low);
  }
  base_->freeze();
}

nn::Parameter* Adapter::find(const std::string& name) {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &parameters_[found->second];
}

void Adapter::initialize(uint64_t seed) {
  uint32_t stream = 0;
  for (const auto& module : spec_.modules) {
    auto* a = find(module.name + ".lora_A");
    auto values = at::empty(a->value.sizes(), at::kFloat);
    core::fill_uniform(values.mutable_data_ptr<float>(), values.numel(),
                       1 / std::sqrt(static_cast<double>(a->value.size(1))), seed, stream++);
    a->value.copy_(values);
    find(module.name + ".lora_B")->value.zero_();
  }
  for (size_t i = 0; i < blocks_.size(); ++i) {
    for (const char* linear : {"qkv", "out", "up", "down"}) {
      for (auto& low : modules_of(blocks_[i], linear)) {
        if (low.magnitude != nullptr)
          low.magnitude->value.copy_(nn::row_norms(base_->linear(i, linear).weight->value, low));
      }
    }
  }
}

void Adapter::copy_from(Adapter& other) {
  for (auto& parameter : parameters_) {
    const auto* source = other.find(parameter.name);
    TORCH_CHECK_VALUE(source != nullptr && source->value.sizes() == parameter.value.sizes(),
                      "[adapter] ", parameter.name,
                      " is missing or has another shape in the other adapter");
    parameter.value.copy_(source->value);
  }
}

void Adapter::merge_into_base() {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    for (const char* linear : {"qkv", "out", "up", "down"}) {
      auto& weight = base_->linear(i, linear).weight->value;
      for (const auto& low : modules_of(blocks_[i], linear))
        weight.narrow(0, low.first_row, low.rows).copy_(nn::merged_rows(weight, low));
    }
  }
}

}  // namespace posttrain::models
