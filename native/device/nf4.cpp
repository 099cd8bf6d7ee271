#include "device/nf4.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "core/dynamic_code.h"
#include "core/transfer.h"

namespace posttrain::device {
namespace {

/** Halfway between a value and the next: a number above it is nearer to the next. */
std::array<float, 15> limits() {
  std::array<float, 15> result;
  for (size_t i = 0; i < result.size(); ++i) result[i] = (kNf4[i] + kNf4[i + 1]) / 2;
  return result;
}

/** The table of a device, one for all matrices on it. */
at::Tensor values_of_bytes(at::Device device) {
  static core::Constant table([] {
    auto values = at::empty({256, 2}, at::kFloat);
    auto* pair = values.mutable_data_ptr<float>();
    for (size_t byte = 0; byte < 256; ++byte) {
      pair[2 * byte] = kNf4[byte >> 4];
      pair[2 * byte + 1] = kNf4[byte & 15];
    }
    return values;
  });
  return table.on(device);
}

// Codes of one block, a byte each
void encode(const float* values, int64_t count, float largest, uint8_t* codes) {
  static const auto above = limits();
  const float inverse = 1 / std::max(largest, 1e-38f);
  for (int64_t i = 0; i < count; ++i) {
    const float x = std::clamp(values[i] * inverse, -1.0f, 1.0f);
    uint8_t code = 0;
    for (const float limit : above) code += x > limit;
    codes[i] = code;
  }
}

}  // namespace

Nf4 Nf4::on(at::Device device) const {
  auto moved = *this;
  // The code of scales that were quantized here is one tensor for all matrices.
  const auto& code = core::DynamicCode::of(true);
  const bool own_code = scale_code.defined() && scale_code.is_same(code.tensor());
  if (own_code) moved.scale_code = code.tensor(device);
  for (auto* tensor : {&moved.codes, &moved.scales, &moved.scale_code, &moved.scale_scales})
    if (tensor->defined() && tensor->device() != device) *tensor = core::on_device(*tensor, device);
  moved.values_of_byte = values_of_bytes(device);
  return moved;
}

Nf4 nf4_of(const at::Tensor& matrix_RC) {
  Nf4 result{matrix_RC.size(0), matrix_RC.size(1)};
  const int64_t count = result.values(), blocks = result.blocks();
  const auto flat = matrix_RC.contiguous().view(-1);
  auto largest = at::empty({blocks}, at::kFloat);
  result.codes = at::empty({(count + 1) / 2}, at::kByte);
  auto* scale = largest.mutable_data_ptr<float>();
  auto* codes = result.codes.mutable_data_ptr<uint8_t>();
  std::atomic<bool> finite{true};
  at::parallel_for(0, blocks, 256, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kNf4Block, last = std::min(end * kNf4Block, count);
    const auto wide = flat.slice(0, first, last).to(at::kFloat).contiguous();
    const auto* values = wide.const_data_ptr<float>();
    for (int64_t block = begin; block < end; ++block) {
      const int64_t at = block * kNf4Block, size = std::min(kNf4Block, count - at);
      const float* of_block = values + at - first;
      float most = 0;
      bool all_finite = true;
      for (int64_t i = 0; i < size; ++i) {
        most = std::max(most, std::abs(of_block[i]));
        all_finite = all_finite && std::isfinite(of_block[i]);
      }
      if (!all_finite) finite = false;
      scale[block] = most;
      // What fills the last byte is no value.
      std::array<uint8_t, kNf4Block> unpacked{};
      encode(of_block, size, most, unpacked.data());
      for (int64_t i = 0; i < size; i += 2)
        codes[(at + i) / 2] = static_cast<uint8_t>(unpacked[i] << 4 | unpacked[i + 1]);
    }
  });
  TORCH_CHECK_VALUE(finite, "[nf4] a weight is not finite");

  const auto& code = core::DynamicCode::of(true);
  const auto mean = largest.mean();
  result.scale_offset = static_cast<float>(core::number_of(mean));
  const auto centered = largest - mean;
  result.scales = at::empty({blocks}, at::kByte);
  result.scale_code = code.tensor();
  result.scale_scales = at::empty({(blocks + kNf4ScaleBlock - 1) / kNf4ScaleBlock}, at::kFloat);
  const auto* from = centered.const_data_ptr<float>();
  auto* to = result.scales.mutable_data_ptr<uint8_t>();
  auto* of_scales = result.scale_scales.mutable_data_ptr<float>();
  for (int64_t block = 0; block < result.scale_scales.numel(); ++block) {
    const int64_t at = block * kNf4ScaleBlock;
    code.encode(from + at, std::min(kNf4ScaleBlock, blocks - at), to + at, of_scales + block);
  }
  return result;
}

at::Tensor nf4_scales(const Nf4& matrix) {
  if (!matrix.scale_code.defined()) return matrix.scales;
  const int64_t blocks = matrix.blocks();
  auto scales = matrix.scale_code.index_select(0, matrix.scales.to(at::kInt));
  const int64_t full = blocks / kNf4ScaleBlock * kNf4ScaleBlock;
  if (full > 0)
    scales.slice(0, 0, full)
        .view({-1, kNf4ScaleBlock})
        .mul_(matrix.scale_scales.slice(0, 0, full / kNf4ScaleBlock).unsqueeze(1));
  if (full < blocks) scales.slice(0, full).mul_(matrix.scale_scales.slice(0, -1));
  return scales.add_(matrix.scale_offset);
}

void nf4_values(const Nf4& matrix, at::Tensor& out_RC) {
  // A piece at a time bounds what it holds.
  constexpr int64_t kPiece = int64_t{1} << 24;
  const auto& pairs = matrix.values_of_byte;
  const auto scales = nf4_scales(matrix);
  auto out = out_RC.view(-1);
  for (int64_t begin = 0; begin < matrix.values(); begin += kPiece) {
    const int64_t end = std::min(begin + kPiece, matrix.values());
    const auto bytes = matrix.codes.slice(0, begin / 2, (end + 1) / 2).to(at::kInt);
    auto values = pairs.index_select(0, bytes).view(-1).slice(0, 0, end - begin);
    const int64_t full = (end - begin) / kNf4Block * kNf4Block;
    const auto of_piece = scales.slice(0, begin / kNf4Block, (end + kNf4Block - 1) / kNf4Block);
    if (full > 0)
      values.slice(0, 0, full)
          .view({-1, kNf4Block})
          .mul_(of_piece.slice(0, 0, full / kNf4Block).unsqueeze(1));
    if (full < end - begin) values.slice(0, full).mul_(of_piece.slice(0, -1));
    out.slice(0, begin, end).copy_(values);
  }
}

}  // namespace posttrain::device
