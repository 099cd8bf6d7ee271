#include "models/adapter.h"

#include <algorithm>
#include <cmath>

#include "core/philox.h"

namespace posttrain::models {
namespace {

std::vector<nn::LowRank>& modules_of(BlockModules& block, const std::string& linear) {
  if (linear == "qkv") return block.qkv;
  if (linear == "out") return block.out;
  return linear == "up" ? block.up : block.down;
}

bool is_embedding(const AdapterModule& module) {
  return module.linear == "embed" || module.linear == "positions";
}

/** A copy of the values. */
at::Tensor own_values(const nn::Parameter& parameter) {
  return parameter.coded == nullptr ? parameter.value.clone() : parameter.values();
}

// Lays the A that read one input one behind another, so that one product serves them. In full
// precision they stay apart: a product of another shape may differ in its last bit.
void lay_together(const std::vector<nn::LowRank>& updates) {
  int64_t rows = 0;
  for (const auto& low : updates) {
    if (!low.a->master.defined()) return;
    rows += low.a->value.size(0);
  }
  if (updates.size() < 2) return;
  const auto all_KI = at::zeros({rows, updates[0].a->value.size(1)}, updates[0].a->value.options());
  int64_t from = 0;
  for (const auto& low : updates) {
    low.a->value = all_KI.narrow(0, from, low.a->value.size(0));
    from += low.a->value.size(0);
  }
}

bool same_update(const nn::LowRank& one, const nn::LowRank& other) {
  return one.a == other.a && one.b == other.b && one.scale == other.scale &&
         one.magnitude == nullptr && other.magnitude == nullptr;
}

}  // namespace

const Layers* ActiveAdapter::layers() const {
  return adapter == nullptr ? nullptr : &adapter->layers();
}

BlockAdapter ActiveAdapter::block(size_t i) const {
  return adapter == nullptr
             ? BlockAdapter{}
             : BlockAdapter{&adapter->block(i), dropout_seed, &adapter->base()->kernels()};
}

const std::vector<nn::LowRank>& ActiveAdapter::embed() const {
  static const std::vector<nn::LowRank> none;
  return adapter == nullptr ? none : adapter->embed();
}

const std::vector<nn::LowRank>& ActiveAdapter::positions() const {
  static const std::vector<nn::LowRank> none;
  return adapter == nullptr ? none : adapter->positions();
}

nn::LinearAdapter ActiveAdapter::head() const {
  return adapter == nullptr
             ? nn::LinearAdapter{}
             : nn::LinearAdapter{&adapter->head(), dropout_seed, &adapter->base()->kernels()};
}

Adapter::Adapter(std::shared_ptr<Decoder> base, AdapterSpec spec)
    : base_(std::move(base)), spec_(std::move(spec)), layers_(base_->layers()) {
  TORCH_CHECK_VALUE(spec_.dropout >= 0 && spec_.dropout < 1,
                    "[adapter] dropout must be in [0, 1), got ", spec_.dropout);
  TORCH_CHECK_VALUE(!spec_.dora || spec_.dropout == 0,
                    "[adapter] DoRA cannot be combined with dropout");
  TORCH_CHECK_VALUE(!spec_.modules.empty() || !spec_.copies.empty(),
                    "[adapter] no modules to adapt");
  blocks_.resize(layers_.blocks.size());
  for (const auto& copy : spec_.copies) add_copy(copy);
  uint32_t stream = 0;
  for (const auto& module : spec_.modules) add_module(module, stream++);
  for (auto& block : blocks_) {
    lay_together(block.qkv);
    lay_together(block.up);
  }
  base_->freeze();
}

nn::Parameter* Adapter::add(const std::string& name, at::IntArrayRef shape, bool wide) {
  TORCH_CHECK_VALUE(!index_.contains(name), "[adapter] ", name, " is listed twice");
  auto& parameter = parameters_.emplace_back();
  parameter.name = name;
  const auto exact = at::TensorOptions()
                         .dtype(base_->dtype() == at::kDouble ? at::kDouble : at::kFloat)
                         .device(base_->device());
  const bool rounded = !wide && exact.dtype() != base_->dtype();
  parameter.value = at::zeros(shape, rounded ? exact.dtype(base_->dtype()) : exact);
  if (rounded) parameter.master = at::zeros(shape, exact);
  index_[name] = parameters_.size() - 1;
  return &parameter;
}

void Adapter::add_copy(const AdapterCopy& copy) {
  TORCH_CHECK_VALUE(!index_.contains(copy.name), "[adapter] ", copy.name, " is listed twice");
  TORCH_CHECK_VALUE(!copy.parameters.empty(), "[adapter] ", copy.name, " copies no parameter");
  auto& original = base_->parameter(copy.parameters[0]);
  const int64_t rows = copy.rows < 0 ? original.sizes()[0] : copy.rows;
  TORCH_CHECK_VALUE(copy.first_row >= 0 && copy.first_row + rows <= original.sizes()[0],
                    "[adapter] the rows of ", copy.name, " are outside its parameter");
  auto& listed = parameters_.emplace_back();
  listed.name = copy.name;
  listed.trainable = copy.trainable;
  index_[copy.name] = parameters_.size() - 1;
  auto* whole = &listed;
  if (rows == original.sizes()[0]) {
    listed.value = own_values(original);
  } else {
    // Rows of a fused parameter: trained through a view, so that the others stay.
    const auto known = std::find_if(kept_.begin(), kept_.end(), [&](const nn::Parameter& kept) {
      return kept.name == copy.parameters[0];
    });
    if (known == kept_.end()) {
      whole = &kept_.emplace_back();
      whole->name = copy.parameters[0];
      whole->value = own_values(original);
      whole->trainable = copy.trainable;
    } else {
      whole = &*known;
    }
    listed.value = whole->value.narrow(0, copy.first_row, rows);
    if (copy.trainable) {
      whole->trainable = true;
      listed.grad = whole->gradient().narrow(0, copy.first_row, rows);
    }
  }
  for (const auto& name : copy.parameters) {
    if (name == "embed.weight") {
      layers_.embed = whole;
    } else if (name == "head.weight") {
      layers_.head = whole;
    } else {
      layers_.replace(&base_->parameter(name), whole);
    }
  }
}

void Adapter::add_module(const AdapterModule& module, uint32_t stream) {
  TORCH_CHECK_VALUE(module.rank > 0, "[adapter] rank must be at least 1, got ", module.rank);
  TORCH_CHECK_VALUE(std::isfinite(module.scale), "[adapter] the scale must be finite, got ",
                    module.scale);
  const auto& weight = *weight_of(module);
  const int64_t out = weight.sizes()[0], in = weight.sizes()[1];
  const int64_t rows = module.rows < 0 ? out : module.rows;
  TORCH_CHECK_VALUE(module.first_row >= 0 && module.first_row + rows <= out,
                    "[adapter] the rows of ", module.name, " are outside its layer");
  nn::LowRank low{module.first_row, rows};
  low.scale = module.scale;
  low.dropout = is_embedding(module) ? 0 : spec_.dropout;
  low.stream = stream;
  low.of_columns = is_embedding(module);
  if (module.shared_with.empty()) {
    const bool wide = spec_.dora || module.initial != Initial::none;
    low.a = add(module.name + ".lora_A", {module.rank, in}, wide);
    low.b = add(module.name + ".lora_B", {rows, module.rank}, wide);
  } else {
    low.a = find(module.shared_with + ".lora_A");
    low.b = find(module.shared_with + ".lora_B");
    TORCH_CHECK_VALUE(low.a != nullptr && low.b != nullptr && low.b->value.size(0) == rows,
                      "[adapter] ", module.name, " cannot share the update of ",
                      module.shared_with);
  }
  if (spec_.dora)
    low.magnitude = add(module.name + ".lora_magnitude_vector", {low.of_columns ? in : rows}, true);
  auto& updates = updates_of(module);
  updates.push_back(low);
  if (module.initial != Initial::none) updates.push_back(taken_out(weight.values(), low, module));
}

nn::LowRank Adapter::taken_out(const at::Tensor& weight_OI, const nn::LowRank& module,
                               const AdapterModule& of) {
  TORCH_CHECK_VALUE(!spec_.dora, "[adapter] DoRA cannot be combined with PiSSA or OLoRA");
  const auto rows_OI = nn::widened(weight_OI.narrow(0, module.first_row, module.rows), module);
  TORCH_CHECK_VALUE(of.rank <= std::min(rows_OI.size(0), rows_OI.size(1)), "[adapter] ", of.name,
                    " has no ", of.rank, " singular values");
  nn::LowRank taken{module.first_row, module.rows};
  taken.a = &kept_.emplace_back();
  taken.b = &kept_.emplace_back();
  taken.a->trainable = taken.b->trainable = false;
  if (of.initial == Initial::pissa) {
    const auto [u, s, vh] = at::linalg_svd(rows_OI, false);
    taken.a->value = vh.narrow(0, 0, of.rank).contiguous();
    taken.b->value = (u.narrow(1, 0, of.rank) * s.narrow(0, 0, of.rank)).contiguous();
    taken.scale = -1;
  } else {
    const auto [q, r] = at::linalg_qr(rows_OI);
    taken.a->value = r.narrow(0, 0, of.rank).contiguous();
    taken.b->value = q.narrow(1, 0, of.rank).contiguous();
    taken.scale = -of.scale;
  }
  return taken;
}

nn::Parameter* Adapter::weight_of(const AdapterModule& module) {
  if (module.linear == "embed") return layers_.embed;
  if (module.linear == "head") return layers_.head;
  if (module.linear == "positions") {
    TORCH_CHECK_VALUE(layers_.positions != nullptr, "[adapter] the model has no learned positions");
    return layers_.positions;
  }
  auto* weight = base_->linear(static_cast<size_t>(module.layer), module.linear).weight;
  for (auto& kept : kept_) {
    if (kept.name == weight->name) return &kept;
  }
  return weight;
}

std::vector<nn::LowRank>& Adapter::updates_of(const AdapterModule& module) {
  if (module.linear == "embed") return embed_;
  if (module.linear == "head") return head_;
  if (module.linear == "positions") return positions_;
  return modules_of(blocks_[static_cast<size_t>(module.layer)], module.linear);
}

nn::Parameter* Adapter::find(const std::string& name) {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &parameters_[found->second];
}

void Adapter::initialize(uint64_t seed) {
  uint32_t stream = 0;
  for (const auto& module : spec_.modules) {
    const uint32_t of_module = stream++;
    if (module.shared_with.empty()) {
      auto* a = find(module.name + ".lora_A");
      auto values = at::empty(a->value.sizes(), at::kFloat);
      if (is_embedding(module)) {
        core::fill_normal(values.mutable_data_ptr<float>(), values.numel(), seed, of_module);
      } else {
        core::fill_uniform(values.mutable_data_ptr<float>(), values.numel(),
                           1 / std::sqrt(static_cast<double>(a->value.size(1))), seed, of_module);
      }
      auto* b = find(module.name + ".lora_B");
      a->exact().copy_(values);
      b->exact().zero_();
      a->round();
      b->round();
    }
    const auto* weight = weight_of(module);
    for (auto& low : updates_of(module)) {
      if (low.magnitude != nullptr)
        low.magnitude->value.copy_(nn::initial_magnitudes(weight->values(), low));
    }
  }
}

void Adapter::copy_from(Adapter& other) {
  for (auto& parameter : parameters_) {
    const auto* source = other.find(parameter.name);
    TORCH_CHECK_VALUE(source != nullptr && source->value.sizes() == parameter.value.sizes(),
                      "[adapter] ", parameter.name,
                      " is missing or has another shape in the other adapter");
    parameter.exact().copy_(source->exact());
    parameter.round();
  }
}

bool Adapter::head_is_embedding() const {
  return layers_.head == layers_.embed &&
         std::equal(head_.begin(), head_.end(), embed_.begin(), embed_.end(), same_update);
}

void Adapter::merge_into_base(bool reads_head) {
  TORCH_CHECK_VALUE(!base_->coded(), "[adapter] cannot be merged into a base in 4 bits");
  if (base_->spec().tied && reads_head && !head_is_embedding()) base_->untie();
  const bool tied = base_->spec().tied;
  const auto merge = [](nn::Parameter& weight, const std::vector<nn::LowRank>& updates) {
    for (const auto& low : updates) {
      weight.value.narrow(0, low.first_row, low.rows).copy_(nn::merged_rows(weight.value, low));
    }
  };
  for (const auto& copy : spec_.copies) {
    const auto& value = find(copy.name)->value;
    for (const auto& name : copy.parameters) {
      if (tied && name == "head.weight") continue;
      base_->parameter(name).value.narrow(0, copy.first_row, value.size(0)).copy_(value);
    }
  }
  for (size_t i = 0; i < blocks_.size(); ++i) {
    for (const char* linear : {"qkv", "out", "up", "down"})
      merge(*base_->linear(i, linear).weight, modules_of(blocks_[i], linear));
  }
  merge(base_->parameter("embed.weight"), embed_);
  if (!positions_.empty()) merge(base_->parameter("positions.weight"), positions_);
  if (!tied) merge(base_->parameter("head.weight"), head_);
}

}  // namespace posttrain::models
