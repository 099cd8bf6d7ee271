#include "optim/blockwise.h"

#include <ATen/Parallel.h>

#include <array>
#include <cmath>

#include "core/dynamic_code.h"

namespace posttrain::optim {
namespace {

using core::DynamicCode;

struct Pointers {
  float* value;
  const float* grad;
  uint8_t *first, *second;
  float *first_scale, *second_scale;
};

void blocks(const Pointers& at, const AdamWFactors& f, int64_t count, int64_t begin, int64_t end) {
  const auto &signed_code = DynamicCode::of(true), &unsigned_code = DynamicCode::of(false);
  std::array<float, kBlock> m, v;
  for (int64_t block = begin; block < end; ++block) {
    const int64_t start = block * kBlock, n = std::min(kBlock, count - start);
    const uint8_t *first = at.first + start, *second = at.second + start;
    const float first_scale = at.first_scale[block], second_scale = at.second_scale[block];
    float* value = at.value + start;
    const float* grad = at.grad + start;
    for (int64_t i = 0; i < n; ++i) {
      m[i] = signed_code.values()[first[i]] * first_scale;
      v[i] = unsigned_code.values()[second[i]] * second_scale;
    }
    for (int64_t i = 0; i < n; ++i) {
      const float g = grad[i] / f.scale;
      m[i] = f.beta1 * m[i] + f.rest1 * g;
      v[i] = f.beta2 * v[i] + f.rest2 * g * g;
      value[i] = value[i] * f.keep - f.rate * (m[i] / (std::sqrt(v[i]) / f.root + f.eps));
    }
    signed_code.encode(m.data(), n, at.first + start, at.first_scale + block);
    unsigned_code.encode(v.data(), n, at.second + start, at.second_scale + block);
  }
}

/** [values] as [blocks, 256], the last block filled with zeros. */
at::Tensor as_blocks(const at::Tensor& flat) {
  const int64_t missing = (kBlock - flat.numel() % kBlock) % kBlock;
  return (missing == 0 ? flat : at::constant_pad_nd(flat, {0, missing})).view({-1, kBlock});
}

at::Tensor decoded(const CodedState& state, const at::Tensor& code, int64_t begin, int64_t end) {
  const auto codes = state.codes.view(-1).slice(0, begin, end).to(at::kInt);
  const auto scales = state.scales.slice(0, begin / kBlock, (end + kBlock - 1) / kBlock);
  return as_blocks(code.index_select(0, codes)).mul_(scales.unsqueeze(1));
}

void encode(const at::Tensor& blocks, const at::Tensor& code, CodedState& state, int64_t begin,
            int64_t end) {
  auto scales = blocks.abs().amax(1);
  scales.masked_fill_(scales <= core::kSmallestScale, 0);
  const auto limits = (code.slice(0, 0, 255) + code.slice(0, 1)).div_(2);
  const auto inverse = at::where(scales > 0, scales.reciprocal(), at::zeros_like(scales));
  const auto codes = at::bucketize(blocks * inverse.unsqueeze(1), limits, /*out_int32=*/true);
  state.codes.view(-1).slice(0, begin, end).copy_(codes.view(-1).slice(0, 0, end - begin));
  state.scales.slice(0, begin / kBlock, begin / kBlock + scales.size(0)).copy_(scales);
}

}  // namespace

CodedState zero_state(const at::Tensor& like, bool is_signed) {
  const auto zero = DynamicCode::of(is_signed).nearest(0.0f);
  return {at::full(like.sizes(), static_cast<int64_t>(zero), like.options().dtype(at::kByte)),
          at::zeros({(like.numel() + kBlock - 1) / kBlock}, like.options().dtype(at::kFloat))};
}

void adamw_blockwise(at::Tensor& value, const at::Tensor& grad, CodedState& first,
                     CodedState& second, const AdamWStep& step) {
  if (!value.is_cpu()) return adamw_blockwise_by_operations(value, grad, first, second, step);
  const AdamWFactors factors(step);
  const Pointers at{value.data_ptr<float>(),         grad.const_data_ptr<float>(),
                    first.codes.data_ptr<uint8_t>(), second.codes.data_ptr<uint8_t>(),
                    first.scales.data_ptr<float>(),  second.scales.data_ptr<float>()};
  at::parallel_for(0, first.scales.numel(), 64, [&](int64_t begin, int64_t end) {
    blocks(at, factors, value.numel(), begin, end);
  });
}

void adamw_blockwise_by_operations(at::Tensor& value, const at::Tensor& grad, CodedState& first,
                                   CodedState& second, const AdamWStep& step) {
  const AdamWFactors f(step);
  // A piece at a time bounds what it holds.
  constexpr int64_t kPiece = int64_t{1} << 24;
  const auto signed_code = DynamicCode::of(true).tensor(value.device()),
             unsigned_code = DynamicCode::of(false).tensor(value.device());
  const auto values = value.view(-1), grads = grad.view(-1);
  for (int64_t begin = 0; begin < values.numel(); begin += kPiece) {
    const int64_t end = std::min(begin + kPiece, values.numel());
    const auto g = as_blocks(grads.slice(0, begin, end) / f.scale);
    const auto m = decoded(first, signed_code, begin, end).mul_(f.beta1).add_(g, f.rest1);
    const auto v = decoded(second, unsigned_code, begin, end).mul_(f.beta2).addcmul_(g, g, f.rest2);
    const auto update = m / (v.sqrt().div_(f.root).add_(f.eps));
    values.slice(0, begin, end).mul_(f.keep).sub_(update.view(-1).slice(0, 0, end - begin), f.rate);
    encode(m, signed_code, first, begin, end);
    encode(v, unsigned_code, second, begin, end);
  }
}

}  // namespace posttrain::optim
