#pragma once
#include "device/kernels.h"

namespace posttrain::device {

/** Sets the attention and the cache of the CPU. */
void use_cpu_attention(Kernels& kernels, at::ScalarType dtype);

}  // namespace posttrain::device
