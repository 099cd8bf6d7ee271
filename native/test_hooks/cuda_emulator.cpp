// The kernels of native/device/cuda_kernels on the CPU: compiled for the block emulator, behind a
// driver that launches them there.
#include "test_hooks/cuda_emulator.h"

#include <c10/util/Half.h>

#include <cstring>
#include <string>

#include "core/cuda_driver.h"
#include "core/cuda_image.h"
#include "test_hooks/block_emulator.h"

// The language of the kernels and their arguments come before them.
// clang-format off
#include "device/cuda_kernels/arguments.h"
#include "device/cuda_kernels/nf4_values.h"
#include "device/cuda_kernels/base.cuh"
#include "device/cuda_kernels/norm.cuh"
#include "device/cuda_kernels/rope.cuh"
#include "device/cuda_kernels/swiglu.cuh"
#include "device/cuda_kernels/label_losses.cuh"
#include "device/cuda_kernels/dropout.cuh"
#include "device/cuda_kernels/nf4.cuh"
#include "device/cuda_kernels/add_rows.cuh"
// clang-format on

namespace posttrain::cuda {

float half_value(unsigned short bits) { return c10::Half(bits, c10::Half::from_bits()); }
unsigned short half_bits(float x) { return c10::Half(x).x; }

}  // namespace posttrain::cuda

namespace posttrain::emulator {
namespace {

// Of the driver's errors
constexpr int kInvalidValue = 1, kOutOfMemory = 2, kNoBinary = 209, kNotFound = 500,
              kIllegalAddress = 700, kLaunchFailed = 719;

/** What stands for a context, and for code that was compiled at run time. */
char context_of_tests;
constexpr char kCompiled[] = "compiled";
void* current_context = nullptr;

int device(int* handle, int ordinal) {
  *handle = ordinal;
  return ordinal == 0 ? 0 : kInvalidValue;
}

int retain_context(void** context, int) {
  *context = &context_of_tests;
  return 0;
}

int get_context(void** context) {
  *context = current_context;
  return 0;
}

int push_context(void* context) {
  current_context = context;
  return 0;
}

int pop_context(void** context) {
  *context = current_context;
  current_context = nullptr;
  return 0;
}

int load_module(void** module, const void* image) {
  if (current_context == nullptr) return kInvalidValue;
  *module = const_cast<void*>(image);
  return 0;
}

int function(void** found, void* module, const char* name) {
  if (module == nullptr) return kInvalidValue;
  *found = const_cast<Kernel*>(Kernel::find(name));
  return *found == nullptr ? kNotFound : 0;
}

int run(void* kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
        unsigned block_y, unsigned block_z, unsigned shared_bytes, void*, void** arguments,
        void**) {
  if (current_context == nullptr) return kInvalidValue;
  launch(*static_cast<const Kernel*>(kernel), {grid_x, grid_y, grid_z}, {block_x, block_y, block_z},
         shared_bytes, arguments[0]);
  return 0;
}

int error_text(int error, const char** text) {
  *text = error == kOutOfMemory      ? "out of memory"
          : error == kNoBinary       ? "no kernel image is available for execution on the device"
          : error == kNotFound       ? "named symbol not found"
          : error == kIllegalAddress ? "an illegal memory access was encountered"
          : error == kLaunchFailed   ? "unspecified launch failure"
                                     : "invalid argument";
  return 0;
}

std::vector<char> compile(const char*, int, int, std::string*) {
  return {kCompiled, kCompiled + sizeof(kCompiled)};
}

const core::CudaDriver kEmulator{
    .device = device,
    .retain_context = retain_context,
    .current_context = get_context,
    .push_context = push_context,
    .pop_context = pop_context,
    .load_module = load_module,
    .function = function,
    .launch = run,
    .error_text = error_text,
    .compile = compile,
};

/** The emulator or the machine's driver, to which what does not fail goes. */
core::CudaDriver behind;

int load_or_fail(void** module, const void* image) {
  if (image == core::kCudaImage.fatbin && faults().fatbin != 0) return faults().fatbin;
  return behind.load_module(module, image);
}

int launch_or_fail(void* kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                   void* stream, void** arguments, void** extra) {
  if (const int error = faults().launch; error != 0) {
    faults().launch = 0;
    return error;
  }
  return behind.launch(kernel, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes,
                       stream, arguments, extra);
}

std::vector<char> compile_or_fail(const char* text, int major, int minor, std::string* problem) {
  if (!faults().no_compiler) return behind.compile(text, major, minor, problem);
  *problem = "NVRTC is missing";
  return {};
}

}  // namespace

Faults& faults() {
  static Faults all;
  return all;
}

void install_driver(bool has_device) {
  // Another environment of this process may have been here.
  core::use_cuda_driver(nullptr);
  behind = has_device && core::cuda_driver() != nullptr ? *core::cuda_driver() : kEmulator;
  static core::CudaDriver driver;
  driver = behind;
  driver.load_module = load_or_fail;
  driver.launch = launch_or_fail;
  driver.compile = compile_or_fail;
  core::use_cuda_driver(&driver);
}

}  // namespace posttrain::emulator
