#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <optional>
#include <string>
#include <vector>

#include "bindings/engine.h"
#include "bindings/handle.h"
#include "bindings/module.h"
#include "core/allocator.h"
#include "core/cuda_devices.h"
#include "core/cuda_image.h"
#include "core/cuda_kernels.h"

extern "C" uint64_t aoti_torch_abi_version();

namespace posttrain::bindings {
namespace {

// Set once a model has been on the device
void add_kernels(Napi::Env env, Napi::Object& device,
                 const std::optional<core::CudaKernels>& found) {
  const bool serve = found.has_value() && found->source != core::KernelSource::none;
  device.Set("kernels", !serve ? env.Null()
                        : found->source == core::KernelSource::fatbin
                            ? Napi::Value(Napi::String::New(env, "fatbin"))
                            : Napi::Value(Napi::String::New(env, "nvrtc")));
  device.Set("kernelsProblem", !found.has_value() || serve
                                   ? env.Null()
                                   : Napi::Value(Napi::String::New(env, found->problem)));
}

Napi::Value engine_info(const Napi::CallbackInfo& info) {
  return submit(info.Env(), {}, nullptr, [](const core::Cancel&) -> Reply {
    const uint64_t version = aoti_torch_abi_version();
    const auto text = std::to_string(version >> 56) + "." + std::to_string((version >> 48) & 0xff) +
                      "." + std::to_string((version >> 40) & 0xff);
    const bool cuda = at::hasCUDA();
    const auto devices = cuda ? core::cuda_devices() : std::vector<core::CudaDevice>();
    std::vector<core::CudaMemory> memory;
    std::vector<std::optional<core::CudaKernels>> kernels;
    for (int i = 0; i < static_cast<int>(devices.size()); ++i) {
      memory.push_back(core::cuda_memory(i));
      const auto* loaded = core::loaded_cuda_kernels(i);
      kernels.push_back(loaded == nullptr ? std::nullopt : std::optional(*loaded));
    }
    return [text, threads = at::get_num_threads(),
            deterministic = at::globalContext().deterministicAlgorithms(), cuda, devices, memory,
            kernels](Napi::Env env) -> Napi::Value {
      auto result = Napi::Object::New(env);
      result.Set("libtorch", text);
      result.Set("threads", threads);
      result.Set("deterministic", deterministic);
      auto list = Napi::Array::New(env);
      for (uint32_t i = 0; i < devices.size(); ++i) {
        auto device = Napi::Object::New(env);
        device.Set("name", devices[i].name);
        device.Set("totalBytes", static_cast<double>(devices[i].total_bytes));
        device.Set("capability",
                   std::to_string(devices[i].major) + "." + std::to_string(devices[i].minor));
        device.Set("allocatedBytes", static_cast<double>(memory[i].allocated_bytes));
        device.Set("reservedBytes", static_cast<double>(memory[i].reserved_bytes));
        device.Set("peakAllocatedBytes", static_cast<double>(memory[i].peak_allocated_bytes));
        add_kernels(env, device, kernels[i]);
        list.Set(i, device);
      }
      auto object = Napi::Object::New(env);
      object.Set("opened", cuda);
      object.Set("devices", list);
      object.Set("architectures", core::kCudaImage.architectures);
      result.Set("cuda", object);
      result.Set("allocatedBytes", static_cast<double>(core::allocated_bytes()));
      result.Set("peakAllocatedBytes", static_cast<double>(core::peak_allocated_bytes()));
      result.Set("liveHandles", static_cast<double>(live_handles()));
      return result;
    };
  });
}

Napi::Value reset_peak(const Napi::CallbackInfo& info) {
  return submit(info.Env(), {}, nullptr, [](const core::Cancel&) {
    core::reset_peak_allocated_bytes();
    core::reset_cuda_peaks();
    return [](Napi::Env env) -> Napi::Value { return env.Undefined(); };
  });
}

}  // namespace

void register_info(Napi::Env env, Napi::Object exports) {
  exports.Set("info", method(env, engine_info));
  exports.Set("resetPeak", method(env, reset_peak));
}

}  // namespace posttrain::bindings
