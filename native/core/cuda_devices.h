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

}  // namespace posttrain::core
