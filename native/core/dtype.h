#pragma once
#include <ATen/core/Tensor.h>

#include <string>

namespace posttrain::core {

/** JavaScript's names: float32, bfloat16, float16, float64. Throws ValueError for others. */
inline at::ScalarType scalar_type_of_name(const std::string& name) {
  if (name == "float32") return at::kFloat;
  if (name == "bfloat16") return at::kBFloat16;
  if (name == "float16") return at::kHalf;
  if (name == "float64") return at::kDouble;
  TORCH_CHECK_VALUE(false, "[dtype] must be float32, bfloat16, float16 or float64, got ", name);
}

inline std::string name_of_scalar_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return "float32";
    case at::kBFloat16:
      return "bfloat16";
    case at::kHalf:
      return "float16";
    case at::kDouble:
      return "float64";
    default:
      TORCH_CHECK(false, "[dtype] no name for ", c10::toString(type));
  }
}

/** cpu, cuda or cuda:N. Throws ValueError for others. */
inline at::Device device_of(const std::string& name) {
  const bool known = name == "cpu" || name == "cuda" ||
                     (name.starts_with("cuda:") && name.size() > 5 && name.size() < 8 &&
                      name.find_first_not_of("0123456789", 5) == std::string::npos);
  TORCH_CHECK_VALUE(known, "[device] must be cpu, cuda or cuda:N, got ", name);
  return at::Device(name);
}

}  // namespace posttrain::core
