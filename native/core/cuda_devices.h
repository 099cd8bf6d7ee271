#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace posttrain::core {

struct CudaDevice {
  std::string name;
  int64_t total_bytes;
};

/** The devices of the driver, asked through libcuda itself; empty without a driver. */
std::vector<CudaDevice> cuda_devices();

struct CudaMemory {
  int64_t allocated_bytes = 0;  // of tensors now alive
  int64_t reserved_bytes = 0;   // those, and what is kept for reuse
};
/** Memory of this process on one device. */
CudaMemory cuda_memory(int device);
/** Gives what is kept for reuse back to the devices. */
void release_cuda_memory();

}  // namespace posttrain::core
