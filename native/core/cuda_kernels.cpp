#include "core/cuda_kernels.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <map>
#include <mutex>
#include <unordered_map>

#include "core/cuda_devices.h"
#include "core/cuda_driver.h"
#include "core/cuda_image.h"

namespace posttrain::core {
namespace {

/** Our kernels in the primary context of one device, which is libtorch's. */
struct Device {
  CudaKernels kernels;
  void* context = nullptr;
  void* module = nullptr;
  std::unordered_map<std::string, void*> functions;
};

std::mutex mutex;
std::map<int, Device> devices;
std::atomic<int64_t> launches{0};

std::string text_of(int error) {
  const char* text = nullptr;
  return cuda_driver()->error_text(error, &text) == 0 && text != nullptr ? text : "unknown error";
}

// As libtorch words them, by which errors get their codes
void check(int error) { TORCH_CHECK(error == 0, "CUDA error: ", text_of(error)); }

/** Makes a context current as long as it lives: libtorch's own calls may not have done so yet on
 * this thread. */
class CurrentContext {
 public:
  explicit CurrentContext(void* context) {
    void* current = nullptr;
    check(cuda_driver()->current_context(&current));
    pushed_ = current != context;
    if (pushed_) check(cuda_driver()->push_context(context));
  }
  ~CurrentContext() {
    void* context = nullptr;
    if (pushed_) cuda_driver()->pop_context(&context);
  }
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;

 private:
  bool pushed_ = false;
};

// The tensors of tests lie on the CPU.
int index_of(at::Device device) { return device.has_index() ? device.index() : 0; }

/** Whether an image has nothing for a device (invalid image or PTX, no binary, no compiler of PTX);
 * every other failure is an error. */
bool lacks_code(int error) {
  for (const int code : {200, 209, 218, 221, 222, 223})
    if (error == code) return true;
  check(error);
  return false;
}

void compile(Device& device, int index, std::string problem) {
  int major = 8, minor = 0;
  if (const auto found = cuda_devices(); static_cast<size_t>(index) < found.size()) {
    major = found[static_cast<size_t>(index)].major;
    minor = found[static_cast<size_t>(index)].minor;
  }
  std::string of_compiler;
  const auto image = cuda_driver()->compile(kCudaImage.text, major, minor, &of_compiler);
  if (!image.empty()) {
    const int error = cuda_driver()->load_module(&device.module, image.data());
    if (!lacks_code(error)) {
      device.kernels = {KernelSource::nvrtc, ""};
      return;
    }
    of_compiler = text_of(error);
  }
  device.kernels = {KernelSource::none, problem + "; " + of_compiler};
}

void load(Device& device, int index) {
  const auto* driver = cuda_driver();
  if (driver == nullptr) {
    device.kernels.problem = "there is no driver with the functions that launch kernels";
    return;
  }
  int handle = 0;
  check(driver->device(&handle, index));
  check(driver->retain_context(&device.context, handle));
  const CurrentContext current(device.context);
  std::string problem = "this core was built without nvcc";
  if (kCudaImage.fatbin != nullptr) {
    const int error = driver->load_module(&device.module, kCudaImage.fatbin);
    if (!lacks_code(error)) {
      device.kernels = {KernelSource::fatbin, ""};
      return;
    }
    problem = text_of(error);
  }
  compile(device, index, problem);
}

Device& device_of(int index) {
  const auto found = devices.find(index);
  if (found != devices.end()) return found->second;
  Device device;
  load(device, index);
  return devices.emplace(index, std::move(device)).first->second;
}

const char* suffix_of(at::ScalarType dtype) {
  return dtype == at::kFloat ? "_float32" : dtype == at::kBFloat16 ? "_bfloat16" : "_float16";
}

void* function_of(Device& device, const std::string& name) {
  auto& function = device.functions[name];
  if (function == nullptr) check(cuda_driver()->function(&function, device.module, name.c_str()));
  return function;
}

}  // namespace

const CudaKernels& cuda_kernels(at::Device device) {
  const std::lock_guard lock(mutex);
  return device_of(index_of(device)).kernels;
}

const CudaKernels* loaded_cuda_kernels(int device) {
  const std::lock_guard lock(mutex);
  const auto found = devices.find(device);
  return found == devices.end() ? nullptr : &found->second.kernels;
}

void forget_cuda_kernels() {
  const std::lock_guard lock(mutex);
  devices.clear();
}

void launch_kernel(at::Device device, const char* name, at::ScalarType dtype, const Grid& grid,
                   const void* arguments) {
  const std::lock_guard lock(mutex);
  auto& of_device = device_of(index_of(device));
  const CurrentContext current(of_device.context);
  void* stream = nullptr;
  if (device.is_cuda())
    stream = c10::impl::VirtualGuardImpl(c10::kCUDA).getStream(device).native_handle();
  // The driver copies the struct, whose size it knows from the kernel.
  void* parameters[] = {const_cast<void*>(arguments)};
  check(cuda_driver()->launch(
      function_of(of_device, std::string("posttrain_") + name + suffix_of(dtype)),
      static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), 1,
      static_cast<unsigned>(grid.threads), 1, 1, static_cast<unsigned>(grid.shared_bytes), stream,
      parameters, nullptr));
  ++launches;
}

int64_t kernel_launches() { return launches; }

}  // namespace posttrain::core
