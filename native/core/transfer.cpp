#include "core/transfer.h"

#include <ATen/ATen.h>

#include <atomic>

namespace posttrain::core {
namespace {

// Pinned blocks are kept for reuse by torch's allocator.
constexpr size_t kPinnedBytes = size_t{16} << 20;

std::atomic<int64_t> uploads{0};
std::atomic<int64_t> waits{0};

}  // namespace

at::Tensor on_device(const at::Tensor& host, at::Device device) {
  if (!host.is_cpu()) return host.to(device);
  const bool pins = host.nbytes() <= kPinnedBytes;
  ++uploads;
  if (!pins) ++waits;
  if (!device.is_cuda() || !pins) return host.to(device);
  auto pinned = at::empty(host.sizes(), host.options().pinned_memory(true));
  pinned.copy_(host);
  return pinned.to(device, /*non_blocking=*/true);
}

at::Tensor on_host(const at::Tensor& tensor, at::ScalarType dtype) {
  ++waits;
  return tensor.to(at::kCPU, dtype).contiguous();
}

double number_of(const at::Tensor& tensor) {
  return *on_host(tensor, at::kDouble).const_data_ptr<double>();
}

at::Tensor Constant::on(at::Device device) {
  const std::lock_guard lock(mutex_);
  auto& copy = copies_[device.str()];
  if (!copy.defined()) copy = on_device(make_(), device);
  return copy;
}

Transfers transfers() { return {uploads.load(), waits.load()}; }

}  // namespace posttrain::core
