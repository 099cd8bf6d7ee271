#include "core/cuda_devices.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <cstdlib>

namespace posttrain::core {
namespace {

// CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
constexpr int kCapabilityMajor = 75, kCapabilityMinor = 76;

// Null where there is no device, and before the first tensor on one.
c10::DeviceAllocator* cuda_allocator() {
  if (!at::hasCUDA()) return nullptr;
  auto* allocator = c10::getDeviceAllocator(c10::kCUDA);
  return allocator->initialized() ? allocator : nullptr;
}

// Devices with an allocator
int device_count() {
  return cuda_allocator() == nullptr ? 0 : c10::impl::VirtualGuardImpl(c10::kCUDA).deviceCount();
}

}  // namespace

std::vector<CudaDevice> cuda_devices() {
  std::vector<CudaDevice> devices;
  // Never closed: it may have started its own threads.
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) return devices;
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto count_of = reinterpret_cast<int (*)(int*)>(dlsym(driver, "cuDeviceGetCount"));
  const auto get = reinterpret_cast<int (*)(int*, int)>(dlsym(driver, "cuDeviceGet"));
  const auto name_of = reinterpret_cast<int (*)(char*, int, int)>(dlsym(driver, "cuDeviceGetName"));
  const auto memory_of =
      reinterpret_cast<int (*)(size_t*, int)>(dlsym(driver, "cuDeviceTotalMem_v2"));
  const auto attribute_of =
      reinterpret_cast<int (*)(int*, int, int)>(dlsym(driver, "cuDeviceGetAttribute"));
  int count = 0;
  if (init != nullptr && count_of != nullptr && get != nullptr && name_of != nullptr &&
      memory_of != nullptr && attribute_of != nullptr && init(0) == 0 && count_of(&count) == 0) {
    for (int i = 0; i < count; ++i) {
      int device = 0, major = 0, minor = 0;
      char name[256] = "";
      size_t bytes = 0;
      if (get(&device, i) != 0 || name_of(name, sizeof(name), device) != 0 ||
          memory_of(&bytes, device) != 0 || attribute_of(&major, kCapabilityMajor, device) != 0 ||
          attribute_of(&minor, kCapabilityMinor, device) != 0)
        continue;
      devices.push_back({name, static_cast<int64_t>(bytes), major, minor});
    }
  }
  return devices;
}

CudaMemory cuda_memory(int device) {
  auto* allocator = cuda_allocator();
  if (allocator == nullptr) return {};
  const auto stats = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(device));
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return {stats.allocated_bytes[kAll].current, stats.reserved_bytes[kAll].current,
          stats.allocated_bytes[kAll].peak};
}

int64_t cuda_allocated_bytes() {
  int64_t bytes = 0;
  for (int i = 0; i < device_count(); ++i) bytes += cuda_memory(i).allocated_bytes;
  return bytes;
}

void reset_cuda_peaks() {
  for (int i = 0; i < device_count(); ++i)
    cuda_allocator()->resetPeakStats(static_cast<c10::DeviceIndex>(i));
}

void release_cuda_memory() {
  auto* allocator = cuda_allocator();
  if (allocator == nullptr) return;
  try {
    allocator->emptyCache();
  } catch (const c10::Error&) {
  }
}

void set_deterministic() {
  const char* set = std::getenv("CUBLAS_WORKSPACE_CONFIG");
  const std::string workspace = set == nullptr ? "" : set;
  TORCH_CHECK_VALUE(!at::hasCUDA() || workspace == ":4096:8" || workspace == ":16:8",
                    "[configure] CUBLAS_WORKSPACE_CONFIG is '", workspace,
                    "', with which products on CUDA are not deterministic: leave it unset, or set "
                    "it to :4096:8 or :16:8 before the process starts");
  at::globalContext().setDeterministicAlgorithms(true, false);
  // Memory that nothing reads before it is written needs no values.
  at::globalContext().setDeterministicFillUninitializedMemory(false);
}

}  // namespace posttrain::core
