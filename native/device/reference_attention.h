#pragma once
#include "device/kernels.h"

namespace posttrain::device {

/** Sets the attention and the cache of the reference. */
void use_reference_attention(Kernels& kernels);

}  // namespace posttrain::device
