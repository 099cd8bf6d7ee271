#pragma once
#include <string>
#include <vector>

namespace posttrain::core {

/**
 * What of the driver launches kernels, with the driver's own signatures: 0 is success. All
 * functions are found at run time, so that the core needs no CUDA to be built or loaded.
 */
struct CudaDriver {
  int (*device)(int* device, int ordinal);
  int (*retain_context)(void** context, int device);
  int (*current_context)(void** context);
  int (*push_context)(void* context);
  int (*pop_context)(void** context);
  int (*load_module)(void** module, const void* image);
  int (*function)(void** function, void* module, const char* name);
  int (*launch)(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream,
                void** arguments, void** extra);
  int (*error_text)(int error, const char** text);
  /** Machine code of a text for a compute capability; empty where it cannot be compiled, and
   * `problem` says why. */
  std::vector<char> (*compile)(const char* text, int major, int minor, std::string* problem);
};

/** The driver of the machine, or null where it lacks one of the functions. */
const CudaDriver* cuda_driver();

/** A driver of tests in the place of the machine's; null: none. */
void use_cuda_driver(const CudaDriver* driver);

}  // namespace posttrain::core
