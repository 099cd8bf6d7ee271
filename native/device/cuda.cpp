#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/philox.h"
#include "device/attention_pieces.h"
#include "device/kernels.h"

namespace posttrain::device {
namespace {

/** CausalFromTopLeft of sdp::CustomMaskType. */
constexpr int64_t kCausal = 1;

bool half(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf;
}

// FlashAttention-2 (Dao 2023, arXiv 2307.08691) in ATen, whose backward takes heads of 193 to 224
// components on some devices only
bool flash_serves(const at::Tensor& x, const AttentionShape& shape) {
  const bool partly = shape.head_dim > 192 && shape.head_dim <= 224;
  return half(x) && shape.head_dim % 8 == 0 && shape.head_dim <= 256 && !partly;
}

// Memory-efficient attention (Rabe & Staats 2021, arXiv 2112.05682) in ATen, whose float32 reads
// four components at once
bool efficient_serves(const at::Tensor& x, const AttentionShape& shape) {
  return x.scalar_type() == at::kFloat && shape.head_dim % 4 == 0;
}

std::optional<int64_t> window_left(const AttentionShape& shape) {
  return shape.window.has_value() ? std::optional<int64_t>(*shape.window - 1) : std::nullopt;
}

std::optional<int64_t> window_right(const AttentionShape& shape) {
  return shape.window.has_value() ? std::optional<int64_t>(0) : std::nullopt;
}

// Keys or values [T, K, E] once for each query head, [1, T, H, E]
at::Tensor grouped(const at::Tensor& kv_TKE, const AttentionShape& s) {
  const auto of_heads =
      s.heads == s.kv_heads ? kv_TKE : kv_TKE.repeat_interleave(s.heads / s.kv_heads, 1);
  return of_heads.unsqueeze(0);
}

// Gradients of grouped keys or values [1, T, H, E], summed over the heads that share them
at::Tensor ungrouped(const at::Tensor& d_1THE, const AttentionShape& s) {
  const auto d = d_1THE.squeeze(0);
  return s.heads == s.kv_heads
             ? d
             : d.view({d.size(0), s.kv_heads, s.heads / s.kv_heads, s.head_dim}).sum(2);
}

at::Tensor attention(const at::Tensor& qkv_TW, const Documents& documents,
                     const AttentionShape& shape, std::vector<at::Tensor>* kept,
                     const core::Cancel& cancel) {
  cancel.check();
  const auto x = packed_qkv(qkv_TW, shape);
  const auto& offsets = documents.offsets_D1;
  const int64_t longest = documents.longest;
  at::Tensor out;
  if (flash_serves(qkv_TW, shape)) {
    auto [result, lse, rng_state, unused, debug] = at::_flash_attention_forward(
        x.q, x.k, x.v, offsets, offsets, longest, longest, 0.0, true, false, shape.softmax_scale(),
        window_left(shape), window_right(shape));
    if (kept != nullptr) *kept = {lse, rng_state, unused};
    out = result;
  } else if (efficient_serves(qkv_TW, shape)) {
    auto [result, lse, seed, offset, longest_q, longest_k] = at::_efficient_attention_forward(
        x.q.unsqueeze(0), grouped(x.k, shape), grouped(x.v, shape), std::nullopt, offsets, offsets,
        longest, longest, 0.0, kCausal, kept != nullptr, shape.softmax_scale(), std::nullopt,
        shape.window);
    if (kept != nullptr) *kept = {lse, seed, offset};
    out = result;
  } else {
    return reference_kernels().attention(qkv_TW, documents, shape, kept, cancel);
  }
  return out.reshape({qkv_TW.size(0), shape.heads * shape.head_dim});
}

at::Tensor attention_backward(const at::Tensor& dout_TO, const at::Tensor& qkv_TW,
                              const at::Tensor& out_TO, const Documents& documents,
                              const AttentionShape& shape, const std::vector<at::Tensor>& kept,
                              const core::Cancel& cancel) {
  cancel.check();
  const auto x = packed_qkv(qkv_TW, shape);
  const auto& offsets = documents.offsets_D1;
  const int64_t longest = documents.longest, tokens = qkv_TW.size(0);
  const auto dout = dout_TO.view({tokens, shape.heads, shape.head_dim});
  const auto out = out_TO.view({tokens, shape.heads, shape.head_dim});
  at::Tensor dq, dk, dv;
  if (flash_serves(qkv_TW, shape)) {
    std::tie(dq, dk, dv) = at::_flash_attention_backward(
        dout, x.q, x.k, x.v, out, kept[0], offsets, offsets, longest, longest, 0.0, true, kept[1],
        kept[2], shape.softmax_scale(), window_left(shape), window_right(shape));
  } else if (efficient_serves(qkv_TW, shape)) {
    auto [dq_1, dk_1, dv_1, dbias] = at::_efficient_attention_backward(
        dout.unsqueeze(0), x.q.unsqueeze(0), grouped(x.k, shape), grouped(x.v, shape), std::nullopt,
        out.unsqueeze(0), offsets, offsets, longest, longest, kept[0], 0.0, kept[1], kept[2],
        kCausal, false, shape.softmax_scale(), std::nullopt, shape.window);
    dq = dq_1.squeeze(0);
    dk = ungrouped(dk_1, shape);
    dv = ungrouped(dv_1, shape);
  } else {
    return reference_kernels().attention_backward(dout_TO, qkv_TW, out_TO, documents, shape, kept,
                                                  cancel);
  }
  auto dqkv_TW = at::empty_like(qkv_TW);
  const auto target = packed_qkv(dqkv_TW, shape);
  target.q.copy_(dq);
  target.k.copy_(dk);
  target.v.copy_(dv);
  return dqkv_TW;
}

// The rows of the cache are documents of one query each, of which the kernel reads as many keys as
// they have: what lies behind them is never touched.
at::Tensor attention_decode(const at::Tensor& qkv_BW, const at::Tensor& cache_BS2KE,
                            const DecodeRows& rows, const AttentionShape& shape) {
  if (!flash_serves(qkv_BW, shape))
    return reference_kernels().attention_decode(qkv_BW, cache_BS2KE, rows, shape);
  const int64_t count = qkv_BW.size(0);
  const auto cached = [&](int64_t which) {
    return cache_BS2KE.select(2, which).view({-1, shape.kv_heads, shape.head_dim});
  };
  const auto out = std::get<0>(at::_flash_attention_forward(
      packed_qkv(qkv_BW, shape).q, cached(0), cached(1), rows.offsets_B1, rows.cache_rows_B1, 1,
      rows.longest, 0.0, true, false, shape.softmax_scale(), window_left(shape),
      window_right(shape), rows.lengths_B));
  return out.reshape({count, shape.heads * shape.head_dim});
}

constexpr int64_t kLow32 = 0xffffffff;

// The high half of a product of two 32-bit numbers, whose sign bit is one of its digits
at::Tensor high32(const at::Tensor& product) {
  return at::bitwise_right_shift(product, 32).bitwise_and_(kLow32);
}

// core::philox4x32 in 64-bit integers
at::Tensor dropout(const at::Tensor& x, at::ScalarType dtype, double p, uint64_t seed,
                   uint32_t stream) {
  const int64_t count = x.numel(), blocks = (count + 3) / 4;
  const auto options = x.options().dtype(at::kLong);
  const auto block = at::arange(blocks, options);
  at::Tensor counter[4] = {
      block.bitwise_and(kLow32), high32(block),
      at::full({blocks}, static_cast<int64_t>(stream), options),
      at::full({blocks}, static_cast<int64_t>(core::Stream::dropout), options)};
  auto key = core::philox_key(seed);
  for (int round = 0; round < 10; ++round) {
    const auto a = counter[0].mul(int64_t{0xD2511F53}), b = counter[2].mul(int64_t{0xCD9E8D57});
    counter[0] = high32(b).bitwise_xor_(counter[1]).bitwise_xor_(static_cast<int64_t>(key[0]));
    counter[2] = high32(a).bitwise_xor_(counter[3]).bitwise_xor_(static_cast<int64_t>(key[1]));
    counter[1] = b.bitwise_and(kLow32);
    counter[3] = a.bitwise_and(kLow32);
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  // bits / 2^32 < p is bits < ceil(p 2^32): the product is exact.
  const auto dropped = static_cast<int64_t>(std::ceil(p * 0x1.0p32));
  const auto bits = at::stack({counter[0], counter[1], counter[2], counter[3]}, 1).view({-1});
  return bits.narrow(0, 0, count)
      .ge(dropped)
      .to(dtype)
      .mul_(static_cast<double>(static_cast<float>(1 / (1 - p))))
      .view(x.sizes());
}

// 256 MB of float32 logits, in rows of whole blocks of a product
int64_t chunk_rows(int64_t columns) {
  return std::clamp<int64_t>((int64_t{64} << 20) / columns / 256 * 256, 256, 8192);
}

}  // namespace

Kernels cuda_kernels(at::ScalarType dtype, int capability_major) {
  auto kernels = reference_kernels();
  kernels.dropout = dropout;
  kernels.chunk_rows = chunk_rows;
  kernels.draws_on_device = true;
  // FlashAttention-2 needs Ampere; before it half precision has no kernel for packed documents.
  if (capability_major < 8 && dtype != at::kFloat) return kernels;
  kernels.attention = attention;
  kernels.attention_backward = attention_backward;
  kernels.attention_decode = attention_decode;
  return kernels;
}

}  // namespace posttrain::device
