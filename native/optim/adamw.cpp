#include "optim/adamw.h"

#include <cmath>

#include "core/error.h"
#include "core/tensor_file.h"
#include "core/transfer.h"

namespace posttrain::optim {
namespace {

/** Parameters below this size keep float32 moments, as in bitsandbytes. */
constexpr int64_t kSmallest8bit = 4096;

/** Whether the rows of a parameter are looked up: they get gradients of very different sizes, which
 * one scale does not serve (transformers keeps them in 32 bits too). */
bool is_embedding(const models::Role& role, const nn::Parameter* parameter) {
  const auto among = [&](const models::Layers* layers) {
    return layers != nullptr && (parameter == layers->embed || parameter == layers->positions);
  };
  return among(&role.base->layers()) || among(role.active_adapter().layers());
}

}  // namespace

AdamW::AdamW(std::shared_ptr<models::Role> role, const AdamWOptions& options)
    : role_(std::move(role)), adapter_(role_->adapter), options_(options) {
  TORCH_CHECK_VALUE(options.beta1 >= 0 && options.beta1 < 1,
                    "[adamw] beta1 must be in [0, 1), got ", options.beta1);
  TORCH_CHECK_VALUE(options.beta2 >= 0 && options.beta2 < 1,
                    "[adamw] beta2 must be in [0, 1), got ", options.beta2);
  TORCH_CHECK_VALUE(options.eps >= 0, "[adamw] eps must be at least 0, got ", options.eps);
  TORCH_CHECK_VALUE(options.weight_decay >= 0, "[adamw] weightDecay must be at least 0, got ",
                    options.weight_decay);
  for (auto* trained : role_->parameters()) {
    auto& parameter = *trained;
    if (!parameter.trainable) continue;
    const auto wide = parameter.value.options().dtype(parameter.grad_dtype());
    Slot slot{
        &parameter, {}, {}, {}, {}, {}, !options.decay_matrices_only || parameter.value.dim() >= 2};
    TORCH_CHECK_VALUE(options.moments == Moments::exact || parameter.grad_dtype() == at::kFloat,
                      "[adamw] rounded moments are for models of 32 or 16 bits, not float64");
    if (options.moments == Moments::bits8 && parameter.value.numel() >= kSmallest8bit &&
        !is_embedding(*role_, trained)) {
      slot.coded_first = zero_state(parameter.value, /*is_signed=*/true);
      slot.coded_second = zero_state(parameter.value, /*is_signed=*/false);
    } else {
      const auto of = options.moments == Moments::bfloat16 ? wide.dtype(at::kBFloat16) : wide;
      slot.first = at::zeros(parameter.value.sizes(), of);
      slot.second = at::zeros(parameter.value.sizes(), of);
    }
    slot.master = parameter.master;
    if (!slot.master.defined() && parameter.value.scalar_type() != parameter.grad_dtype())
      slot.master = parameter.value.to(parameter.grad_dtype());
    slots_.push_back(std::move(slot));
  }
  TORCH_CHECK_VALUE(!slots_.empty(), "[adamw] the model has no trainable parameter");
}

StepResult AdamW::step(double learning_rate, double max_grad_norm) {
  TORCH_CHECK_VALUE(
      !broken_, "[adamw] an earlier step failed midway: load a checkpoint into a new optimizer");
  TORCH_CHECK_VALUE(!role_->gradients_dirty,
                    "[adamw] the last backward did not complete: call zeroGrad() before step()");
  TORCH_CHECK_VALUE(std::isfinite(learning_rate) && learning_rate >= 0,
                    "[adamw] learningRate must be finite and at least 0, got ", learning_rate);
  TORCH_CHECK_VALUE(std::isfinite(max_grad_norm) && max_grad_norm >= 0,
                    "[adamw] maxGradNorm must be finite and at least 0, got ", max_grad_norm);
  std::vector<at::Tensor> grads;
  for (auto& slot : slots_) grads.push_back(slot.parameter->gradient());
  const auto norms = at::_foreach_norm(grads, 2);
  const double norm = core::number_of(at::linalg_vector_norm(at::stack(norms).to(at::kDouble), 2));
  if (!std::isfinite(norm)) return {norm, false};

  // Clipping multiplies by max / (norm + 1e-6); the fused update divides by its scale.
  double scale = 1;
  at::Tensor grad_scale;
  if (max_grad_norm > 0 && norm + 1e-6 > max_grad_norm) {
    scale = (norm + 1e-6) / max_grad_norm;
    grad_scale = at::full({1}, scale, grads[0].options().dtype(at::kFloat));
    if (grads[0].scalar_type() == at::kDouble) {
      // The fused kernel's scale is float32: float64 gradients are scaled beforehand.
      at::_foreach_mul_(grads, max_grad_norm / (norm + 1e-6));
      grad_scale = at::Tensor();
      scale = 1;
    }
  }
  std::vector<size_t> decaying, others;
  for (size_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].exact()) (slots_[i].decays ? decaying : others).push_back(i);
  broken_ = true;
  ++steps_;
  update(decaying, learning_rate, options_.weight_decay, grad_scale);
  update(others, learning_rate, 0, grad_scale);
  update_rounded(learning_rate, scale);
  broken_ = false;
  return {norm, true};
}

void AdamW::update(const std::vector<size_t>& indices, double learning_rate, double weight_decay,
                   const at::Tensor& grad_scale) {
  if (indices.empty()) return;
  std::vector<at::Tensor> values, grads, first, second, steps;
  const auto count = at::full({}, static_cast<double>(steps_),
                              slots_[indices[0]].first.options().dtype(at::kFloat));
  for (const size_t i : indices) {
    auto& slot = slots_[i];
    values.push_back(slot.master.defined() ? slot.master : slot.parameter->value);
    grads.push_back(slot.parameter->gradient());
    first.push_back(slot.first);
    second.push_back(slot.second);
    steps.push_back(count);
  }
  at::_fused_adamw_(values, grads, first, second, {}, steps, learning_rate, options_.beta1,
                    options_.beta2, weight_decay, options_.eps, false, false,
                    grad_scale.defined() ? std::optional<at::Tensor>(grad_scale) : std::nullopt,
                    std::nullopt);
  round_masters(indices);
}

void AdamW::round_masters(const std::vector<size_t>& indices) {
  std::vector<at::Tensor> values, masters;
  for (const size_t i : indices) {
    if (!slots_[i].master.defined()) continue;
    values.push_back(slots_[i].parameter->value);
    masters.push_back(slots_[i].master);
  }
  if (!values.empty()) at::_foreach_copy_(values, masters);
}

void AdamW::update_rounded(double learning_rate, double grad_scale) {
  std::vector<size_t> rounded;
  for (size_t i = 0; i < slots_.size(); ++i) {
    auto& slot = slots_[i];
    if (slot.exact()) continue;
    rounded.push_back(i);
    auto& value = slot.master.defined() ? slot.master : slot.parameter->value;
    const double decay = slot.decays ? options_.weight_decay : 0;
    const AdamWStep step{learning_rate, decay,  options_.beta1, options_.beta2,
                         options_.eps,  steps_, grad_scale};
    auto& grad = slot.parameter->gradient();
    if (slot.first.defined()) {
      adamw_half_moments(value, grad, slot.first, slot.second, step, static_cast<uint32_t>(i));
    } else {
      adamw_blockwise(value, grad, slot.coded_first, slot.coded_second, step);
    }
  }
  round_masters(rounded);
}

template <typename Visit>
void AdamW::each_tensor(const Visit& visit) const {
  for (const auto& slot : slots_) {
    const auto& name = slot.parameter->name;
    if (slot.first.defined()) {
      visit(name + ".first", slot.first);
      visit(name + ".second", slot.second);
    } else {
      visit(name + ".first.codes", slot.coded_first.codes);
      visit(name + ".first.scales", slot.coded_first.scales);
      visit(name + ".second.codes", slot.coded_second.codes);
      visit(name + ".second.scales", slot.coded_second.scales);
    }
    // Those of an adapter are its weights, which are saved and loaded with the model.
    if (slot.master.defined() && !slot.parameter->master.defined())
      visit(name + ".master", slot.master);
  }
}

void AdamW::save(const std::string& path, const core::Cancel& cancel) const {
  TORCH_CHECK_VALUE(!broken_, "[adamw] an earlier step failed midway: its state cannot be saved");
  std::vector<core::TensorToWrite> tensors;
  each_tensor([&](const std::string& name, const at::Tensor& tensor) {
    tensors.push_back({name, tensor.scalar_type(), tensor.sizes().vec(),
                       [tensor] { return core::on_host(tensor, tensor.scalar_type()); }});
  });
  core::write_tensor_file(
      path, tensors, {{"steps", std::to_string(steps_)}, {"format", "posttrain-adamw"}}, cancel);
}

void AdamW::load(const std::string& path, const core::Cancel& cancel) {
  const core::TensorFile file(path);
  const auto steps = file.header().metadata.find("steps");
  if (steps == file.header().metadata.end() || steps->second.empty() ||
      steps->second.find_first_not_of("0123456789") != std::string::npos ||
      steps->second.size() > 15) {
    throw core::Error(core::ErrorCode::invalid_file,
                      path + " is not an optimizer state: its metadata has no step count");
  }
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;
  each_tensor([&](const std::string& name, const at::Tensor& target) {
    cancel.check();
    const auto* entry = file.find(name);
    if (entry == nullptr)
      throw core::Error(core::ErrorCode::invalid_file, path + " has no tensor " + name);
    if (entry->shape != target.sizes().vec() ||
        core::scalar_type_of(entry->dtype) != target.scalar_type()) {
      throw core::Error(core::ErrorCode::invalid_file,
                        path + ": the shape or dtype of " + name + " does not match this model");
    }
    copies.emplace_back(target, file.read(*entry));
  });
  for (auto& [target, source] : copies) target.copy_(source);
  steps_ = std::stoll(steps->second);
  broken_ = false;
}

}  // namespace posttrain::optim
