#include "core/cuda_driver.h"

#include <dlfcn.h>

#include <filesystem>
#include <system_error>

namespace posttrain::core {
namespace {

const CudaDriver* of_tests = nullptr;

template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

// NVRTC comes with libtorch for CUDA, and the loader has opened it where it is in libtorch's own
// folder; elsewhere libtorch's library of the same folder depends on it.
void* nvrtc_library() {
  for (const char* name : {"libnvrtc.so.13", "libnvrtc.so.12", "libcaffe2_nvrtc.so"}) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL); library != nullptr) return library;
  }
  Dl_info found;
  const void* torch = dlsym(RTLD_DEFAULT, "aoti_torch_abi_version");
  if (torch == nullptr || dladdr(torch, &found) == 0) return nullptr;
  const std::string path = found.dli_fname;
  const auto folder = path.substr(0, path.rfind('/') + 1);
  return dlopen((folder + "libcaffe2_nvrtc.so").c_str(), RTLD_NOW | RTLD_LOCAL);
}

// NVRTC opens a library of its own folder by its name alone, which the loader finds only where it
// is open already.
void open_builtins(const void* of_nvrtc) {
  Dl_info found;
  if (dladdr(of_nvrtc, &found) == 0) return;
  std::error_code ignored;
  const auto folder = std::filesystem::path(found.dli_fname).parent_path();
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    if (entry.path().filename().string().starts_with("libnvrtc-builtins.so"))
      dlopen(entry.path().c_str(), RTLD_NOW | RTLD_LOCAL);
  }
}

std::vector<char> compile(const char* text, int major, int minor, std::string* problem) {
  int (*create)(void**, const char*, const char*, int, const char* const*, const char* const*);
  int (*run)(void*, int, const char* const*);
  int (*size_of)(void*, size_t*);
  int (*get)(void*, char*);
  int (*log_size)(void*, size_t*);
  int (*log_of)(void*, char*);
  int (*destroy)(void**);
  void* library = nvrtc_library();
  if (library == nullptr || !find(library, "nvrtcCreateProgram", create) ||
      !find(library, "nvrtcCompileProgram", run) || !find(library, "nvrtcGetCUBINSize", size_of) ||
      !find(library, "nvrtcGetCUBIN", get) || !find(library, "nvrtcGetProgramLogSize", log_size) ||
      !find(library, "nvrtcGetProgramLog", log_of) ||
      !find(library, "nvrtcDestroyProgram", destroy)) {
    *problem = "NVRTC is missing";
    return {};
  }
  open_builtins(reinterpret_cast<const void*>(create));
  void* program = nullptr;
  if (create(&program, text, "posttrain.cu", 0, nullptr, nullptr) != 0) {
    *problem = "NVRTC does not start";
    return {};
  }
  const auto architecture =
      "--gpu-architecture=sm_" + std::to_string(major) + std::to_string(minor);
  const char* options[] = {architecture.c_str(), "--std=c++17"};
  std::vector<char> image;
  size_t size = 0;
  if (run(program, 2, options) == 0 && size_of(program, &size) == 0) {
    image.resize(size);
    if (get(program, image.data()) != 0) image.clear();
  }
  if (image.empty()) {
    std::string log;
    if (log_size(program, &size) == 0) {
      log.resize(size);
      log_of(program, log.data());
    }
    *problem = "NVRTC does not compile them for sm_" + std::to_string(major) +
               std::to_string(minor) + ": " + log.substr(0, log.find('\n'));
  }
  destroy(&program);
  return image;
}

const CudaDriver* found_driver() {
  // Never closed: it may have started its own threads.
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  static CudaDriver driver;
  driver.compile = compile;
  const bool whole = find(library, "cuDeviceGet", driver.device) &&
                     find(library, "cuDevicePrimaryCtxRetain", driver.retain_context) &&
                     find(library, "cuCtxGetCurrent", driver.current_context) &&
                     find(library, "cuCtxPushCurrent_v2", driver.push_context) &&
                     find(library, "cuCtxPopCurrent_v2", driver.pop_context) &&
                     find(library, "cuModuleLoadData", driver.load_module) &&
                     find(library, "cuModuleGetFunction", driver.function) &&
                     find(library, "cuLaunchKernel", driver.launch) &&
                     find(library, "cuGetErrorString", driver.error_text);
  return whole ? &driver : nullptr;
}

}  // namespace

const CudaDriver* cuda_driver() {
  static const CudaDriver* const found = found_driver();
  return of_tests != nullptr ? of_tests : found;
}

void use_cuda_driver(const CudaDriver* driver) { of_tests = driver; }

}  // namespace posttrain::core
