#include "train/scalar_head.h"

#include "core/matmul.h"
#include "core/transfer.h"

namespace posttrain::train {

nn::Parameter& scalar_head_of(models::Role& role) {
  TORCH_CHECK_VALUE(role.score() != nullptr, "[backward] this needs a model with a scalar head");
  return *role.score();
}

std::vector<double> read_scalar_head(const at::Tensor& hidden_RD, const nn::Parameter& head) {
  const auto values = core::on_host(
      at::mv(hidden_RD.to(head.value.scalar_type()), head.value.squeeze(0)), at::kDouble);
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

at::Tensor scalar_head_backward(const std::vector<double>& derivatives, const at::Tensor& hidden_RD,
                                nn::Parameter& head) {
  const auto derivatives_R1 =
      core::on_device(at::tensor(derivatives, at::kDouble).to(head.value.scalar_type()),
                      head.value.device())
          .unsqueeze(1);
  if (head.trainable)
    core::add_transposed_product(head.gradient(), derivatives_R1,
                                 hidden_RD.to(head.value.scalar_type()));
  return at::mm(derivatives_R1, head.value).to(hidden_RD.scalar_type());
}

}  // namespace posttrain::train
