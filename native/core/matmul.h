#pragma once
#include <ATen/core/Tensor.h>

namespace posttrain::core {

/**
 * Matrix products over T tokens. Torch's own go through MKL, which on AMD processors uses kernels
 * of 256 bits; where such a processor has AVX-512, oneDNN's kernels are more than twice as fast in
 * float32 and are used instead. oneDNN compiles a kernel for each shape (about 1 ms and 0.5 MB), so
 * tokens are taken in blocks of a few fixed sizes, whatever their number.
 *
 * POSTTRAIN_MATMUL=torch|onednn overrides the choice, also in decoding; it is read once.
 *
 * Half factors add to a float32 matrix in the product itself where the device has such a product
 * (CUDA; probed once), else their rounded product is added.
 */
/** out = x w, also of half factors into a float32 out: CUDA adds up and stores in float32. */
void multiply(at::Tensor& out_TN, const at::Tensor& x_TK, const at::Tensor& w_KN);
/** The bias may be undefined. */
at::Tensor product(const at::Tensor& x_TK, const at::Tensor& w_KN, const at::Tensor& bias_N = {});
/**
 * x w^T of few tokens with w [N, K], whose rows are read once, at the speed of the memory: a row of
 * the result depends on no other row and not on the number of threads. Another dtype or device,
 * and more than 64 tokens, go to product(). The bias may be undefined.
 */
at::Tensor product_of_few(const at::Tensor& x_TK, const at::Tensor& w_NK,
                          const at::Tensor& bias_N = {});
/** out += scale x w, also into an out of another dtype. */
void add_product(at::Tensor& out_TN, const at::Tensor& x_TK, const at::Tensor& w_KN,
                 double scale = 1);
/** out += scale a^T b, also into an out of another dtype. */
void add_transposed_product(at::Tensor& out_MN, const at::Tensor& a_TM, const at::Tensor& b_TN,
                            double scale = 1);

/** Row stride with which products of this many columns are fast. */
int64_t fast_stride(int64_t columns);

}  // namespace posttrain::core
