// posttrain.node: does not link libtorch. It opens libtorch by absolute path, checks its version
// before any C++ symbol is touched, opens the CUDA libraries if there is a device for them, and
// only then the core.
#include <node_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>

#include "core/error.h"
#include "loader/library.h"

#ifndef POSTTRAIN_TORCH_MAJOR
#define POSTTRAIN_TORCH_MAJOR 2
#define POSTTRAIN_TORCH_MINOR 13
#endif

namespace core = posttrain::core;
namespace loader = posttrain::loader;

namespace {

struct Failure {
  core::ErrorCode code;
  std::string message;
};

std::mutex mutex;
std::string opened_libtorch;
std::string opened_core;
void* core_library = nullptr;

void* open_or_fail(const std::string& path, bool announce) {
  if (announce) {
    // A truncated library kills the process with SIGBUS: this line tells the parent which one it
    // was.
    std::printf("posttrain-probe opening %s\n", path.c_str());
    std::fflush(stdout);
  }
  void* library = loader::open_library(path);
  if (library == nullptr) throw Failure{core::ErrorCode::libtorch_load, loader::open_error()};
  return library;
}

/** What NVIDIA's driver says before libtorch is opened. */
struct Driver {
  bool answers = false;
  /** Whether all devices map memory into addresses that were reserved before. */
  bool maps_memory = false;
};

Driver ask_driver() {
  // CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
  constexpr int kMapsMemory = 102;
  // Never closed: it may have started its own threads.
  void* driver = loader::open_library(loader::kNames.driver);
  if (driver == nullptr) return {};
  const auto init = reinterpret_cast<int (*)(unsigned)>(loader::find_symbol(driver, "cuInit"));
  const auto count_of =
      reinterpret_cast<int (*)(int*)>(loader::find_symbol(driver, "cuDeviceGetCount"));
  const auto get = reinterpret_cast<int (*)(int*, int)>(loader::find_symbol(driver, "cuDeviceGet"));
  const auto attribute_of = reinterpret_cast<int (*)(int*, int, int)>(
      loader::find_symbol(driver, "cuDeviceGetAttribute"));
  int count = 0;
  if (init == nullptr || count_of == nullptr || init(0) != 0 || count_of(&count) != 0 || count == 0)
    return {};
  Driver found{true, get != nullptr && attribute_of != nullptr};
  for (int i = 0; i < count && found.maps_memory; ++i) {
    int device = 0, maps = 0;
    found.maps_memory =
        get(&device, i) == 0 && attribute_of(&maps, kMapsMemory, device) == 0 && maps != 0;
  }
  return found;
}

// NVIDIA's libraries, dependencies first; those in other folders are found through libtorch's
// own RPATH.
const char* const kCudaLibraries[] = {
    "libcudart.so.13",   "libcupti.so.13",     "libnvshmem_host.so.3", "libnvJitLink.so.13",
    "libcublasLt.so.13", "libcublas.so.13",    "libcusparse.so.12",    "libcufft.so.12",
    "libcufile.so.0",    "libcusparseLt.so.0", "libnccl.so.2",         "libcurand.so.10",
    "libcudnn.so.9",     "libnvrtc.so.13",     "libcusolver.so.12",    "libc10_cuda.so",
};

struct Opened {
  std::string version;
  bool cuda = false;
  std::string cuda_error;
};

// Variables that libtorch reads once; what the user has set stays.
void set_variables_of_cuda(const Driver& driver) {
#ifdef __linux__
  // Without it torch refuses products in deterministic runs, also where they begin later.
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
  // Segments of the allocator that grow: what one batch leaves serves a longer one. The device of
  // WSL 2 (/dev/dxg) says that it can do so, and fails.
  if (driver.maps_memory && !loader::file_exists("/dev/dxg") &&
      std::getenv("PYTORCH_CUDA_ALLOC_CONF") == nullptr)
    setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True", 0);
#endif
}

Opened open_libtorch(const std::string& folder, const std::string& cuda, bool announce) {
  const std::string cuda_path = folder + "/" + loader::kNames.torch_cuda;
  const bool has_cuda = cuda != "off" && loader::file_exists(cuda_path);
  const Driver driver = has_cuda ? ask_driver() : Driver{};
  if (has_cuda) set_variables_of_cuda(driver);
  for (const char* name : {"libcudart.so.13", "libcupti.so.13"}) {
    if (loader::file_exists(folder + "/" + name)) open_or_fail(folder + "/" + name, announce);
  }
  open_or_fail(folder + "/" + loader::kNames.c10, announce);
  // From here on, a library of another folder would be mixed with this folder's c10.
  if (!announce) opened_libtorch = folder;
  const std::string cpu_path = folder + "/" + loader::kNames.torch_cpu;
  void* cpu = open_or_fail(cpu_path, announce);
  const auto version_of =
      reinterpret_cast<uint64_t (*)()>(loader::find_symbol(cpu, "aoti_torch_abi_version"));
  if (version_of == nullptr) {
    throw Failure{core::ErrorCode::libtorch_version,
                  cpu_path + " does not report its version; posttrain needs libtorch " +
                      std::to_string(POSTTRAIN_TORCH_MAJOR) + "." +
                      std::to_string(POSTTRAIN_TORCH_MINOR)};
  }
  const uint64_t version = version_of();
  const auto major = static_cast<int>((version >> 56) & 0xff),
             minor = static_cast<int>((version >> 48) & 0xff);
  Opened opened;
  opened.version = std::to_string(major) + "." + std::to_string(minor) + "." +
                   std::to_string((version >> 40) & 0xff);
  if (major != POSTTRAIN_TORCH_MAJOR || minor != POSTTRAIN_TORCH_MINOR) {
    throw Failure{core::ErrorCode::libtorch_version,
                  "libtorch in " + folder + " is version " + opened.version + "; posttrain needs " +
                      std::to_string(POSTTRAIN_TORCH_MAJOR) + "." +
                      std::to_string(POSTTRAIN_TORCH_MINOR)};
  }
  // Before any operation: libtorch caches its first check for CUDA.
  if (has_cuda && (cuda == "on" || driver.answers)) {
    try {
      for (const char* name : kCudaLibraries) {
        if (loader::file_exists(folder + "/" + name)) open_or_fail(folder + "/" + name, announce);
      }
      open_or_fail(cuda_path, announce);
      opened.cuda = true;
    } catch (const Failure& failure) {
      // Falls back to the CPU; the caller reports why CUDA failed.
      opened.cuda_error = failure.message;
    }
  }
  return opened;
}

Opened libtorch_state;

/** Arguments of open() and probe(); paths are absolute, since names are searched for elsewhere. */
std::string string_field(napi_env env, napi_value object, const char* name) {
  napi_value value;
  napi_valuetype type = napi_undefined;
  size_t length = 0;
  if (napi_typeof(env, object, &type) != napi_ok || type != napi_object ||
      napi_get_named_property(env, object, name, &value) != napi_ok ||
      napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) {
    throw Failure{core::ErrorCode::invalid_argument,
                  std::string("open: ") + name + " must be a string"};
  }
  std::string text(length, '\0');
  napi_get_value_string_utf8(env, value, text.data(), length + 1, &length);
  return text;
}

std::string path_field(napi_env env, napi_value object, const char* name) {
  auto path = string_field(env, object, name);
  if (!loader::is_absolute(path)) {
    throw Failure{core::ErrorCode::invalid_argument,
                  std::string("open: ") + name + " must be an absolute path, got '" + path + "'"};
  }
  return path;
}

std::string cuda_field(napi_env env, napi_value object) {
  auto mode = string_field(env, object, "cuda");
  if (mode != "auto" && mode != "on" && mode != "off") {
    throw Failure{core::ErrorCode::invalid_argument,
                  "open: cuda must be auto, on or off, got '" + mode + "'"};
  }
  return mode;
}

void throw_failure(napi_env env, const Failure& failure) {
  napi_throw_error(env, core::name_of(failure.code), failure.message.c_str());
}

napi_value state_object(napi_env env, const Opened& opened) {
  napi_value result, version, cuda, error;
  napi_create_object(env, &result);
  napi_create_string_utf8(env, opened.version.c_str(), opened.version.size(), &version);
  napi_get_boolean(env, opened.cuda, &cuda);
  napi_create_string_utf8(env, opened.cuda_error.c_str(), opened.cuda_error.size(), &error);
  napi_set_named_property(env, result, "version", version);
  napi_set_named_property(env, result, "cuda", cuda);
  napi_set_named_property(env, result, "cudaError", error);
  return result;
}

// open({ libtorch, core, cuda }): the exports of the core
napi_value open(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  try {
    const auto folder = path_field(env, argument, "libtorch"),
               core = path_field(env, argument, "core");
    const auto cuda = cuda_field(env, argument);
    const std::lock_guard lock(mutex);
    if ((!opened_libtorch.empty() && opened_libtorch != folder) ||
        (core_library != nullptr && opened_core != core)) {
      throw Failure{core::ErrorCode::libtorch_load,
                    "this process has already opened " + opened_libtorch +
                        (core_library != nullptr ? " and " + opened_core : "") +
                        "; another libtorch needs another process"};
    }
    if (core_library == nullptr) {
      libtorch_state = open_libtorch(folder, cuda, false);
      core_library = open_or_fail(core, false);
      opened_core = core;
    }
    const auto init = reinterpret_cast<napi_value (*)(napi_env, napi_value)>(
        loader::find_symbol(core_library, "posttrain_core_init"));
    if (init == nullptr)
      throw Failure{core::ErrorCode::libtorch_load, core + " is not the core library of posttrain"};
    napi_value exports;
    napi_create_object(env, &exports);
    return init(env, exports);
  } catch (const Failure& failure) {
    throw_failure(env, failure);
    return nullptr;
  }
}

// probe({ libtorch, cuda }): opens an unknown libtorch, in a child process, which it may crash
napi_value probe(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  try {
    return state_object(
        env, open_libtorch(path_field(env, argument, "libtorch"), cuda_field(env, argument), true));
  } catch (const Failure& failure) {
    throw_failure(env, failure);
    return nullptr;
  }
}

// state(): the libtorch, core and CUDA that open() found
napi_value state(napi_env env, napi_callback_info) {
  const std::lock_guard lock(mutex);
  return state_object(env, libtorch_state);
}

}  // namespace

NAPI_MODULE_INIT() {
  // Otherwise the end of the last worker that uses this library would unload it, with its
  // process-wide state.
  loader::keep_loaded(reinterpret_cast<const void*>(&open_or_fail));
  const struct {
    const char* name;
    napi_callback body;
  } functions[] = {{"open", open}, {"probe", probe}, {"state", state}};
  for (const auto& function : functions) {
    napi_value value;
    napi_create_function(env, function.name, NAPI_AUTO_LENGTH, function.body, nullptr, &value);
    napi_set_named_property(env, exports, function.name, value);
  }
  return exports;
}
