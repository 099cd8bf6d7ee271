#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace posttrain::core {

struct CudaDevice {
  std::string name;
  int64_t total_bytes;
};

/** Devices of the driver, queried through libcuda itself; empty without a driver. */
std::vector<CudaDevice> cuda_devices();

struct CudaMemory {
  int64_t allocated_bytes = 0;  // of live tensors
  int64_t reserved_bytes = 0;   // those, and memory kept for reuse
};
/** Memory of this process on one device. */
CudaMemory cuda_memory(int device);
/** Returns memory kept for reuse to the devices. */
void release_cuda_memory();

}  // namespace posttrain::core
