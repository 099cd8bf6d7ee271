#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "device/kernels.h"

namespace posttrain::models {

/** Packed tokens: T of them in D documents. */
struct Tokens {
  at::Tensor ids_T;        // int64, on the device
  at::Tensor positions_T;  // int64, from 0 in each document, on the device
  device::Documents documents;
};

/** Checks ids [T] and offsets [D + 1] and moves them to the device. Throws ValueError. */
Tokens tokens_of(const std::vector<int32_t>& ids, const std::vector<int32_t>& offsets,
                 int64_t vocab_size, at::Device device);

}  // namespace posttrain::models
