#include "optim/half_moments.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "core/philox.h"

namespace posttrain::optim {
namespace {

constexpr int64_t kLow32 = 0xffffffff;
/** Multipliers of the finalizer of MurmurHash3 (Appleby, public domain), which spreads the bits of
 * a place over all of a hash. */
constexpr uint32_t kSpread1 = 0x85ebca6b, kSpread2 = 0xc2b2ae35;

/** Differs by the step and the parameter. */
uint32_t key_of(const AdamWStep& step, uint32_t index) {
  const auto count = static_cast<uint64_t>(step.step);
  return core::philox4x32(
      {static_cast<uint32_t>(count), static_cast<uint32_t>(count >> 32), index, 0},
      core::philox_key(0))[0];
}

inline uint32_t hash_of(uint32_t place, uint32_t key) {
  uint32_t h = place ^ key;
  h = (h ^ (h >> 16)) * kSpread1;
  h = (h ^ (h >> 13)) * kSpread2;
  return h ^ (h >> 16);
}

// The upper half of a float is a bfloat16; `random` has 16 bits.
inline uint16_t rounded(float x, uint32_t random) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return static_cast<uint16_t>((bits + random) >> 16);
}

inline float widened(uint16_t half) {
  const uint32_t bits = uint32_t{half} << 16;
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// [to - from] hashes of the places, in 64-bit integers
at::Tensor hashes(int64_t from, int64_t to, uint32_t key, const at::TensorOptions& options) {
  const auto times = [](const at::Tensor& h, int64_t shift, uint32_t factor) {
    return at::bitwise_xor(h, at::bitwise_right_shift(h, shift))
        .mul_(static_cast<int64_t>(factor))
        .bitwise_and_(kLow32);
  };
  auto h = at::arange(from, to, options.dtype(at::kLong))
               .bitwise_and_(kLow32)
               .bitwise_xor_(static_cast<int64_t>(key));
  h = times(times(h, 16, kSpread1), 13, kSpread2);
  return at::bitwise_xor(h, at::bitwise_right_shift(h, 16));
}

at::Tensor rounded(const at::Tensor& x, const at::Tensor& random) {
  const auto bits = x.view(at::kInt).to(at::kLong).bitwise_and_(kLow32).add_(random);
  return at::bitwise_right_shift(bits, 16).to(at::kShort).view(at::kBFloat16);
}

}  // namespace

void adamw_half_moments(at::Tensor& value, const at::Tensor& grad, at::Tensor& first,
                        at::Tensor& second, const AdamWStep& step, uint32_t index) {
  if (!value.is_cpu())
    return adamw_half_moments_by_operations(value, grad, first, second, step, index);
  const AdamWFactors f(step);
  const uint32_t key = key_of(step, index);
  float* values = value.data_ptr<float>();
  const float* grads = grad.const_data_ptr<float>();
  auto* firsts = reinterpret_cast<uint16_t*>(first.data_ptr<at::BFloat16>());
  auto* seconds = reinterpret_cast<uint16_t*>(second.data_ptr<at::BFloat16>());
  at::parallel_for(0, value.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float g = grads[i] / f.scale;
      const float m = f.beta1 * widened(firsts[i]) + f.rest1 * g;
      const float v = f.beta2 * widened(seconds[i]) + f.rest2 * g * g;
      values[i] = values[i] * f.keep - f.rate * (m / (std::sqrt(v) / f.root + f.eps));
      const uint32_t random = hash_of(static_cast<uint32_t>(i), key);
      firsts[i] = rounded(m, random & 0xffff);
      seconds[i] = rounded(v, random >> 16);
    }
  });
}

void adamw_half_moments_by_operations(at::Tensor& value, const at::Tensor& grad, at::Tensor& first,
                                      at::Tensor& second, const AdamWStep& step, uint32_t index) {
  const AdamWFactors f(step);
  const uint32_t key = key_of(step, index);
  // A piece at a time bounds what it holds.
  constexpr int64_t kPiece = int64_t{1} << 24;
  for (int64_t begin = 0; begin < value.numel(); begin += kPiece) {
    const int64_t end = std::min(begin + kPiece, value.numel());
    const auto piece = [&](const at::Tensor& x) { return x.view(-1).slice(0, begin, end); };
    const auto g = piece(grad) / f.scale;
    const auto m = piece(first).to(at::kFloat).mul_(f.beta1).add_(g, f.rest1);
    const auto v = piece(second).to(at::kFloat).mul_(f.beta2).addcmul_(g, g, f.rest2);
    const auto update = m / v.sqrt().div_(f.root).add_(f.eps);
    piece(value).mul_(f.keep).sub_(update, f.rate);
    const auto random = hashes(begin, end, key, value.options());
    piece(first).copy_(rounded(m, at::bitwise_and(random, 0xffff)));
    piece(second).copy_(rounded(v, at::bitwise_right_shift(random, 16)));
  }
}

}  // namespace posttrain::optim
