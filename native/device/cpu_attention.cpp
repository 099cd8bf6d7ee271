#include "device/cpu_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/few_tokens.h"
#include "core/simd.h"
#include "device/attention_pieces.h"

namespace posttrain::device {
namespace {

std::optional<at::Tensor> mask_of(const Piece& piece, const AttentionShape& shape,
                                  const at::Tensor& qkv) {
  if (!piece.masked) return std::nullopt;
  return visible_mask(piece, shape.window, qkv.options());
}

at::Tensor attention(const at::Tensor& qkv_TW, const Documents& documents,
                     const AttentionShape& shape, std::vector<at::Tensor>* kept,
                     const core::Cancel& cancel) {
  auto out_TO = at::empty({qkv_TW.size(0), shape.heads * shape.head_dim}, qkv_TW.options());
  for (const auto& piece : pieces_of(documents.offsets, shape.window)) {
    cancel.check();
    const auto x = qkv_of(qkv_TW, piece, shape);
    auto [out, lse] = at::_scaled_dot_product_flash_attention_for_cpu(
        x.q, x.k, x.v, 0.0, !piece.masked, mask_of(piece, shape, qkv_TW), shape.scale);
    heads_of(out_TO, piece.q_from, piece.q_to, 0, shape.heads, shape.head_dim).copy_(out);
    if (kept != nullptr) kept->push_back(lse);
  }
  return out_TO;
}

at::Tensor attention_backward(const at::Tensor& dout_TO, const at::Tensor& qkv_TW,
                              const at::Tensor& out_TO, const Documents& documents,
                              const AttentionShape& shape, const std::vector<at::Tensor>& kept,
                              const core::Cancel& cancel) {
  const auto pieces = pieces_of(documents.offsets, shape.window);
  // Blocks of a sliding window share keys, so their gradients add up; whole documents are written
  // once.
  auto dqkv_TW = shape.window.has_value() ? at::zeros_like(qkv_TW) : at::empty_like(qkv_TW);
  for (size_t i = 0; i < pieces.size(); ++i) {
    cancel.check();
    const auto& piece = pieces[i];
    const auto x = qkv_of(qkv_TW, piece, shape), target = qkv_of(dqkv_TW, piece, shape);
    const auto dout = heads_of(dout_TO, piece.q_from, piece.q_to, 0, shape.heads, shape.head_dim);
    const auto out = heads_of(out_TO, piece.q_from, piece.q_to, 0, shape.heads, shape.head_dim);
    const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        dout, x.q, x.k, x.v, out, kept[i], 0.0, !piece.masked, mask_of(piece, shape, qkv_TW),
        shape.scale);
    target.q.copy_(dq);
    if (shape.window.has_value()) {
      target.k.add_(dk);
      target.v.add_(dv);
    } else {
      target.k.copy_(dk);
      target.v.copy_(dv);
    }
  }
  return dqkv_TW;
}

void fill_cache(at::Tensor& cache_BS2KE, const at::Tensor& qkv_TW, const Documents& documents,
                const at::Tensor&, const AttentionShape& shape) {
  const auto kv_T2KE = keys_and_values(qkv_TW, shape);
  for (size_t d = 0; d + 1 < documents.offsets.size(); ++d) {
    const int64_t from = documents.offsets[d], length = documents.offsets[d + 1] - from;
    cache_BS2KE.select(0, static_cast<int64_t>(d))
        .narrow(0, 0, length)
        .copy_(kv_T2KE.narrow(0, from, length));
  }
}

void append_cache(at::Tensor& cache_BS2KE, const at::Tensor& qkv_BW, const DecodeRows& rows,
                  const AttentionShape& shape) {
  const auto value = static_cast<int64_t>(qkv_BW.element_size());
  const int64_t width = 2 * shape.kv_heads * shape.head_dim * value;
  const auto* from =
      static_cast<const char*>(qkv_BW.const_data_ptr()) + shape.heads * shape.head_dim * value;
  auto* to = static_cast<char*>(cache_BS2KE.mutable_data_ptr());
  for (size_t b = 0; b < rows.lengths.size(); ++b) {
    const auto row = static_cast<int64_t>(b);
    std::memcpy(to + (row * cache_BS2KE.stride(0) * value) + (rows.lengths[b] - 1) * width,
                from + row * qkv_BW.stride(0) * value, static_cast<size_t>(width));
  }
}

// Weights of softmax(scale x) without their divisor, in place; returns that
POSTTRAIN_SIMD float exponentials(float* x, int64_t count, float scale) {
  float highest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : highest)
  for (int64_t s = 0; s < count; ++s) highest = x[s] > highest ? x[s] : highest;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t s = 0; s < count; ++s) {
    x[s] = core::exp_f32((x[s] - highest) * scale);
    sum += x[s];
  }
  return sum;
}

constexpr int64_t kTogether = 8;

// out += the sum over positions of p[s] v[s], kTogether of them at a time; values `stride` apart
POSTTRAIN_SIMD void add_values(const float* p, const float* values, int64_t stride, int64_t count,
                               float* out, int64_t head_dim) {
  int64_t s = 0;
  for (; s + kTogether <= count; s += kTogether) {
    const float* v = values + s * stride;
    const float* ps = p + s;
#pragma omp simd
    for (int64_t e = 0; e < head_dim; ++e) {
      float sum = out[e];
      for (int64_t i = 0; i < kTogether; ++i) sum += ps[i] * v[i * stride + e];
      out[e] = sum;
    }
  }
  for (; s < count; ++s) {
    const float* v = values + s * stride;
#pragma omp simd
    for (int64_t e = 0; e < head_dim; ++e) out[e] += p[s] * v[e];
  }
}

// All query heads of one key / value head over `count` positions `stride` apart: their keys and
// values are read once. scores [group, count]
void decode_group(const float* q, const float* keys, const float* values, float* out, float* scores,
                  int64_t group, int64_t head_dim, int64_t stride, int64_t count, float scale) {
  core::multiply_few(keys, stride, count, head_dim, q, group, scores, count);
  float sums[kTogether];
  std::fill(out, out + group * head_dim, 0.0f);
  for (int64_t first = 0; first < group; first += kTogether) {
    const int64_t end = std::min(group, first + kTogether);
    for (int64_t g = first; g < end; ++g)
      sums[g - first] = exponentials(scores + g * count, count, scale);
    // Values of some positions are in the cache for all heads.
    constexpr int64_t kPositions = 64;
    for (int64_t s = 0; s < count; s += kPositions) {
      for (int64_t g = first; g < end; ++g)
        add_values(scores + g * count + s, values + s * stride, stride,
                   std::min(kPositions, count - s), out + g * head_dim, head_dim);
    }
    for (int64_t g = first; g < end; ++g) {
      for (int64_t e = 0; e < head_dim; ++e) out[g * head_dim + e] /= sums[g - first];
    }
  }
}

at::Tensor attention_decode(const at::Tensor& qkv_BW, const at::Tensor& cache_BS2KE,
                            const DecodeRows& rows, const AttentionShape& shape) {
  const int64_t count = qkv_BW.size(0), group = shape.heads / shape.kv_heads,
                width = shape.head_dim;
  auto out = at::empty({count, shape.heads * width}, qkv_BW.options());
  const float* q = qkv_BW.const_data_ptr<float>();
  float* op = out.mutable_data_ptr<float>();
  const float* cache = cache_BS2KE.const_data_ptr<float>();
  const int64_t stride = cache_BS2KE.stride(1), values = cache_BS2KE.stride(2);
  at::parallel_for(0, count * shape.kv_heads, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> scores(group * rows.longest);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / shape.kv_heads, h = i % shape.kv_heads;
      const int64_t to = rows.lengths[b],
                    from = shape.window.has_value() ? std::max<int64_t>(0, to - *shape.window) : 0;
      const float* keys = cache + b * cache_BS2KE.stride(0) + from * stride + h * width;
      decode_group(q + b * qkv_BW.stride(0) + h * group * width, keys, keys + values,
                   op + (b * shape.heads + h * group) * width, scores.data(), group, width, stride,
                   to - from, static_cast<float>(shape.softmax_scale()));
    }
  });
  return out;
}

}  // namespace

void use_cpu_attention(Kernels& kernels, at::ScalarType dtype) {
  kernels.attention = attention;
  kernels.attention_backward = attention_backward;
  kernels.fill_cache = fill_cache;
  kernels.append_cache = append_cache;
  if (dtype == at::kFloat) kernels.attention_decode = attention_decode;
}

}  // namespace posttrain::device
