#pragma once
#include <ATen/core/Tensor.h>

#include <variant>
#include <vector>

#include "device/kernels.h"
#include "device/nf4.h"

namespace posttrain::nn {

/**
 * A frozen weight [out, in] in 4 bits. Its rows are coded apart, as the tensors of the files that
 * they come from; a file may also keep a tensor as it is.
 */
class CodedWeight {
 public:
  /** No rows are set; their values count as zeros. */
  CodedWeight(int64_t out, int64_t in, const at::TensorOptions& options,
              const device::Kernels* kernels);

  /** The same weight with the kernels of another decoder; codes are never changed, so both share
   * them. */
  CodedWeight on(const device::Kernels* kernels) const {
    auto copy = *this;
    copy.kernels_ = kernels;
    return copy;
  }
  at::IntArrayRef sizes() const { return sizes_; }
  /** Sets rows from `first` on, in place of rows of the same range. */
  void set(int64_t first, device::Nf4 rows);
  void set(int64_t first, const at::Tensor& rows);
  /** First rows of what is kept as it is, not in 4 bits. */
  std::vector<int64_t> plain_rows() const;
  /** The values [out, in] in the compute dtype: a temporary. */
  at::Tensor values() const;
  /** y [T, out] = x W^T. */
  at::Tensor product(const at::Tensor& x_TI) const;

 private:
  struct Part {
    int64_t first;
    int64_t rows;
    std::variant<device::Nf4, at::Tensor> content;
  };
  void put(Part part);

  std::vector<int64_t> sizes_;
  at::TensorOptions options_;
  const device::Kernels* kernels_;
  /** By their first rows. */
  std::vector<Part> parts_;
};

}  // namespace posttrain::nn
