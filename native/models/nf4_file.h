#pragma once
#include <string>
#include <vector>

#include "core/tensor_file.h"
#include "device/nf4.h"

namespace posttrain::models {

/**
 * A weight [rows, columns] that bitsandbytes saved in NF4: `<name>` with its codes, and beside it
 * `<name>.absmax`, `.quant_map`, `.nested_absmax` and `.nested_quant_map` with double
 * quantization, and `.quant_state.bitsandbytes__nf4`, JSON as bytes; each in any of the files.
 * Throws Error(ERR_INVALID_FILE).
 */
device::Nf4 read_nf4(const std::vector<const core::TensorFile*>& files, const std::string& path,
                     const std::string& name, int64_t rows, int64_t columns);

}  // namespace posttrain::models
