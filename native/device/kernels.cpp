#include "device/kernels.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/Exception.h>

#include <cstdlib>
#include <string>

#include "core/cuda_devices.h"
#include "core/error.h"

namespace posttrain::device {
namespace {

/** Compute capability that the stand-ins of tests answer for. */
constexpr int kAmpere = 8;

int capability_major(at::Device device) {
  if (!device.is_cuda()) return kAmpere;
  const auto devices = core::cuda_devices();
  const auto index = static_cast<size_t>(device.has_index() ? device.index() : 0);
  TORCH_CHECK_VALUE(devices.empty() || index < devices.size(), "there is no device cuda:", index,
                    ": the last of this machine is cuda:", devices.size() - 1);
  if (devices.empty()) return kAmpere;  // torch says what is missing
  const auto& found = devices[index];
  if (found.major * 10 + found.minor < 75) {
    throw core::Error(core::ErrorCode::unsupported_device,
                      found.name + " has compute capability " + std::to_string(found.major) + "." +
                          std::to_string(found.minor) +
                          ", and this libtorch has kernels from 7.5 on: use the device cpu");
  }
  return found.major;
}

/** Whether the library of the test hooks gave the operations of CUDA a kernel for the CPU. */
bool has_stand_ins() {
  const auto found =
      c10::Dispatcher::singleton().findSchema({"aten::_flash_attention_forward", ""});
  return found.has_value() && found->hasKernelForDispatchKey(c10::DispatchKey::CPU);
}

}  // namespace

Kernels kernels_of(at::Device device, at::ScalarType dtype) {
  const char* asked = std::getenv("POSTTRAIN_KERNELS");
  std::string name = asked == nullptr ? "" : asked;
  if (name.empty()) name = device.is_cpu() ? "cpu" : device.is_cuda() ? "cuda" : "reference";
  if (name == "reference") return reference_kernels();
  if ((name == "cuda" || name == "aten") && (device.is_cuda() || has_stand_ins())) {
    auto kernels = cuda_kernels(dtype, capability_major(device));
    if (name == "cuda") use_fused_kernels(kernels, device);
    return kernels;
  }
  TORCH_CHECK_VALUE(name == "cpu" && device.is_cpu(),
                    "POSTTRAIN_KERNELS must be reference, aten (on CUDA) or unset, got ", name);
  return cpu_kernels(dtype);
}

}  // namespace posttrain::device
