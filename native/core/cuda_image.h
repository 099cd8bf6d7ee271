#pragma once
#include <cstddef>

namespace posttrain::core {

/** The kernels of native/device/cuda_kernels; scripts/setup/cuda-image.mjs writes it. */
struct CudaImage {
  /** Code for `architectures` and PTX for later ones; null where there was no nvcc. */
  const void* fatbin;
  /** As "7.5 8.0 9.0"; empty without a fatbin. */
  const char* architectures;
  /** The text that NVRTC compiles. */
  const char* text;
};

extern const CudaImage kCudaImage;

}  // namespace posttrain::core
