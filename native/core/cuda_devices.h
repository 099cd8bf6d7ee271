#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace posttrain::core {

struct CudaDevice {
  std::string name;
  int64_t total_bytes;
  /** Compute capability. */
  int major = 0, minor = 0;
};

/** Devices of the driver, queried through libcuda itself; empty without a driver. */
std::vector<CudaDevice> cuda_devices();

struct CudaMemory {
  int64_t allocated_bytes = 0;       // of live tensors
  int64_t reserved_bytes = 0;        // those, and memory kept for reuse
  int64_t peak_allocated_bytes = 0;  // since the last reset
};
/** Memory of this process on one device. */
CudaMemory cuda_memory(int device);
/** Bytes of this process's live tensors on all devices. */
int64_t cuda_allocated_bytes();
/** Begins the peaks of all devices anew. */
void reset_cuda_peaks();
/** Returns memory kept for reuse to the devices; a lost device has none to give. */
void release_cuda_memory();

/** Sums of every operation on a device in one order, so that a run repeats to the bit. */
void set_deterministic();

}  // namespace posttrain::core
