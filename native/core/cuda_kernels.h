#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace posttrain::core {

/** Where the code of our kernels on a device comes from. */
enum class KernelSource { none, fatbin, nvrtc };

struct CudaKernels {
  KernelSource source = KernelSource::none;
  /** Why there are none. */
  std::string problem;
};

/** Our kernels on a device, loaded at the first call: from the core's fatbin, else compiled by
 * NVRTC. Without a driver, or with neither, there are none. */
const CudaKernels& cuda_kernels(at::Device device);

/** The same where they have been loaded, else null. */
const CudaKernels* loaded_cuda_kernels(int device);

/** For tests: kernels are loaded again at their next use. */
void forget_cuda_kernels();

struct Grid {
  int64_t x, y = 1;
  int threads;
  int64_t shared_bytes = 0;
};

/** Queues the kernel posttrain_NAME_DTYPE with a struct of arguments on the current stream of a
 * device. Throws c10::Error with the driver's text. */
void launch_kernel(at::Device device, const char* name, at::ScalarType dtype, const Grid& grid,
                   const void* arguments);

/** Kernels of ours that this process has launched. */
int64_t kernel_launches();

}  // namespace posttrain::core
