#pragma once
#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/cancel.h"
#include "device/label_rows.h"
#include "device/nf4.h"

namespace posttrain::device {

/** An RMSNorm of rows: x / sqrt(mean(x^2) + eps) * w, or * (1 + w) with `offset`. */
struct RmsNorm {
  const at::Tensor& weight_D;
  double eps;
  bool offset;
};

/** Cosines and sines [positions, d/2] of a rotary embedding of the first d components of a head. In
 * the half-split layout component i rotates with i + d/2, interleaved 2i with 2i + 1. */
struct Rotation {
  const at::Tensor& cos_PD;
  const at::Tensor& sin_PD;
  int64_t head_dim;
  bool interleaved;
};

/** W = (heads + 2 kv_heads) head_dim columns of qkv. */
struct AttentionShape {
  int64_t heads = 1;
  int64_t kv_heads = 1;
  int64_t head_dim = 1;
  /** A token sees itself and window - 1 tokens before it; absent: all before it. */
  std::optional<int64_t> window;
  /** Factor of the scores; absent: 1 / sqrt(head_dim). */
  std::optional<double> scale;

  double softmax_scale() const {
    return scale.has_value() ? *scale : 1 / std::sqrt(static_cast<double>(head_dim));
  }
};

/** D documents, one behind the other, of T tokens in all. */
struct Documents {
  std::vector<int64_t> offsets;  // [D + 1]
  at::Tensor offsets_D1;         // the same, int32, on the device
  int64_t longest = 0;
};

/** B rows that are decoded together, one new token each; tensors lie on the device. */
struct DecodeRows {
  /** Tokens of each row, the new one included, [B]. */
  std::vector<int64_t> lengths;
  int64_t longest = 0;
  at::Tensor lengths_B;      // int32
  at::Tensor positions_B;    // int64: lengths - 1
  at::Tensor rows_B;         // int64: 0 to B - 1
  at::Tensor offsets_B1;     // int32: 0 to B
  at::Tensor cache_rows_B1;  // int32: the same times the positions of the cache
};

/**
 * What a device computes in its own way: chosen once for a decoder, by device, dtype and compute
 * capability. All else is torch's operations. T tokens, D columns, V tokens of the vocabulary.
 *
 * Keys and values of one layer are cached as [B, S, 2, kv_heads, head_dim] for B rows of S
 * positions, zeros where nothing was written.
 */
struct Kernels {
  /** y [T, D], and 1 / sqrt(mean(x^2) + eps) of each row. */
  at::Tensor (*rms)(const RmsNorm& norm, const at::Tensor& x_TD, at::Tensor& rstd_T);
  /** dx [T, D]; adds dw to `dweight` [D] unless null. */
  at::Tensor (*rms_backward)(const RmsNorm& norm, const at::Tensor& x_TD, const at::Tensor& dy_TD,
                             const at::Tensor& rstd_T, at::Tensor* dweight_D);
  /** Rotates the first `heads` heads of each row of x [T, W] in place; row t is at positions[t].
   * `inverse` rotates back. */
  void (*rope)(const Rotation& rotation, const at::Tensor& x_TW, const at::Tensor& positions_T,
               int64_t heads, bool inverse);
  /** silu(gate) * up of [T, 2 I], the gates before the ups: [T, I]. */
  at::Tensor (*swiglu)(const at::Tensor& gate_up_T2I);
  at::Tensor (*swiglu_backward)(const at::Tensor& gate_up_T2I, const at::Tensor& dy_TI);

  /**
   * Causal attention of packed documents; no token sees another document. qkv [T, W] holds q, k
   * and v of each token; the result is [T, heads * head_dim]. What the backward reads besides goes
   * to `kept` unless null.
   */
  at::Tensor (*attention)(const at::Tensor& qkv_TW, const Documents& documents,
                          const AttentionShape& shape, std::vector<at::Tensor>* kept,
                          const core::Cancel& cancel);
  /** dqkv [T, W] from dout [T, heads * head_dim]. */
  at::Tensor (*attention_backward)(const at::Tensor& dout_TO, const at::Tensor& qkv_TW,
                                   const at::Tensor& out_TO, const Documents& documents,
                                   const AttentionShape& shape, const std::vector<at::Tensor>& kept,
                                   const core::Cancel& cancel);
  /** Writes keys and values of document d, columns of qkv [T, W], to the first positions of the
   * cache's row d. */
  void (*fill_cache)(at::Tensor& cache_BS2KE, const at::Tensor& qkv_TW, const Documents& documents,
                     const at::Tensor& positions_T, const AttentionShape& shape);
  /** Writes keys and values of one new token a row, columns of qkv [B, W], to its position. */
  void (*append_cache)(at::Tensor& cache_BS2KE, const at::Tensor& qkv_BW, const DecodeRows& rows,
                       const AttentionShape& shape);
  /** Attention of one new token a row over what is cached of its row, [B, heads * head_dim]. */
  at::Tensor (*attention_decode)(const at::Tensor& qkv_BW, const at::Tensor& cache_BS2KE,
                                 const DecodeRows& rows, const AttentionShape& shape);

  /**
   * Adds dy [T, D] to rows ids[t] of a gradient [V, D], in the order of the tokens, so that the sum
   * is deterministic. The row `padding_id` gets nothing.
   */
  void (*add_rows)(at::Tensor& grad_VD, const at::Tensor& ids_T, const at::Tensor& dy_TD,
                   std::optional<int64_t> padding_id);
  /** Losses of C rows of logits in float32 or float64, the first of them row `first` of
   * `scale_of`; where that is given the logits are replaced by their gradient. Null where logits
   * lie on a device: its losses are those of label_losses. */
  void (*label_rows)(at::Tensor& logits_CV, const int64_t* targets_C, int64_t first,
                     const ScaleOf& scale_of, double* nll_C, double* entropy_C, uint8_t* correct_C);
  /** Cross-entropy of each target, entropy, and 1 where the target was the most probable token,
   * [3, C], of C rows of logits in float32 or float64. Where scales of the first two are given,
   * [2, C], their gradient by the logits goes to `dlogits`, in its dtype; it may be the logits.
   * Losses and scales are float64. */
  void (*label_losses)(const at::Tensor& logits_CV, const at::Tensor& targets_C,
                       const at::Tensor& scales_2C, at::Tensor& losses_3C, at::Tensor& dlogits_CV);
  /** Columns of a buffer for rows of V logits: padded where products are faster then. */
  int64_t (*logit_columns)(int64_t columns);
  /** The values of a matrix in 4 bits in `out` [rows, columns]. */
  void (*nf4_values)(const Nf4& matrix, at::Tensor& out_RC);
  /** out [T, rows] = x W^T of at most `nf4_tokens` tokens, without making W, whose columns fill
   * whole blocks. */
  void (*nf4_product)(const Nf4& matrix, const at::Tensor& x_TC, at::Tensor& out_TR);
  /** 0: no product of its own. */
  int64_t nf4_tokens;
  /** Whether tokens are drawn on the device, so that the host waits once for several steps. */
  bool draws_on_device = false;
  /** Rows that the output projection and its loss take at once, of logits with so many columns. */
  int64_t (*chunk_rows)(int64_t columns);
  /** 0 with probability p, else 1 / (1 - p), [T, D]: each value depends on seed, stream and its
   * place alone, on every device. */
  at::Tensor (*dropout)(const at::Tensor& x_TD, at::ScalarType dtype, double p, uint64_t seed,
                        uint32_t stream);
};

/** torch's operations alone: any device, dtype and shape. */
Kernels reference_kernels();
/** Loops of our own in float32, and torch's fused attention for the CPU. */
Kernels cpu_kernels(at::ScalarType dtype);

/** The fused attention of libtorch's CUDA half, packed documents in one call, for a device of that
 * compute capability. */
Kernels cuda_kernels(at::ScalarType dtype, int capability_major);

/** Replaces torch's operations by our kernels of native/device/cuda_kernels for float32, bfloat16
 * and float16 where the device has them; what those do not take they give to the reference. */
void use_fused_kernels(Kernels& kernels, at::Device device);

/** The kernels of a device; POSTTRAIN_KERNELS names others: reference, cpu, cuda, or aten, which is
 * cuda without our own kernels. */
Kernels kernels_of(at::Device device, at::ScalarType dtype);

/** The dtype of statistics and sums: float64 stays, all else is float32. */
inline at::ScalarType wide_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace posttrain::device
