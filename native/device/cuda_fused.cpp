#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/cuda_kernels.h"
#include "core/philox.h"
#include "device/cuda_kernels/arguments.h"
#include "device/kernels.h"

namespace posttrain::device {
namespace {

using core::Grid;
using core::launch_kernel;

/** Shared memory that every device gives a block without being asked, beside what kernels declare.
 */
constexpr int64_t kSharedBytes = 47 << 10;
/** Rows of partial sums of a weight's gradient. */
constexpr int64_t kPartials = 512;

bool fused_dtype(at::ScalarType dtype) {
  return dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf;
}

/** A matrix of one of the dtypes whose rows are whole, one behind the other. */
bool whole(const at::Tensor& x, at::ScalarType dtype) {
  return x.scalar_type() == dtype && x.is_contiguous() &&
         x.size(-1) <= std::numeric_limits<int>::max() / 4;
}

bool fused(const at::Tensor& x) {
  return fused_dtype(x.scalar_type()) && whole(x, x.scalar_type());
}

/** Values that a thread takes at once where rows are aligned. */
int64_t pack_of(const at::Tensor& x, int64_t columns) {
  const int64_t pack = 16 / x.element_size();
  return columns % pack == 0 ? pack : 1;
}

/** Whole warps for that many packs of a row. */
int threads_for(int64_t packs, int64_t most) {
  return static_cast<int>(std::clamp<int64_t>((packs + 31) / 32 * 32, 32, most));
}

const long long* integers(const at::Tensor& x) {
  return static_cast<const long long*>(x.const_data_ptr());
}

int64_t blocks_for(int64_t rows) { return std::min<int64_t>(rows, 1 << 20); }

at::Tensor rms(const RmsNorm& norm, const at::Tensor& x, at::Tensor& rstd) {
  if (!fused(x) || !whole(norm.weight_D, x.scalar_type()))
    return reference_kernels().rms(norm, x, rstd);
  const int64_t rows = x.size(0), columns = x.size(1);
  auto y = at::empty_like(x);
  rstd = at::empty({rows}, x.options().dtype(at::kFloat));
  if (rows == 0) return y;
  const cuda::RmsArguments arguments{x.const_data_ptr(),
                                     norm.weight_D.const_data_ptr(),
                                     y.mutable_data_ptr(),
                                     rstd.mutable_data_ptr<float>(),
                                     rows,
                                     static_cast<int>(columns),
                                     norm.offset,
                                     static_cast<float>(norm.eps)};
  launch_kernel(x.device(), "rms", x.scalar_type(),
                {.x = blocks_for(rows), .threads = threads_for(columns / pack_of(x, columns), 512)},
                &arguments);
  return y;
}

at::Tensor rms_backward(const RmsNorm& norm, const at::Tensor& x, const at::Tensor& dy,
                        const at::Tensor& rstd, at::Tensor* dweight) {
  if (!fused(x) || !whole(dy, x.scalar_type()) || !whole(norm.weight_D, x.scalar_type()) ||
      !whole(rstd, at::kFloat) || (dweight != nullptr && !whole(*dweight, at::kFloat)))
    return reference_kernels().rms_backward(norm, x, dy, rstd, dweight);
  const int64_t rows = x.size(0), columns = x.size(1);
  auto dx = at::empty_like(x);
  if (rows == 0) return dx;
  const int64_t blocks = dweight == nullptr ? blocks_for(rows) : std::min(rows, kPartials);
  const int64_t shared_bytes = columns * static_cast<int64_t>(sizeof(float));
  const bool shared = dweight != nullptr && shared_bytes <= kSharedBytes;
  at::Tensor partial;
  if (dweight != nullptr) partial = at::empty({blocks, columns}, rstd.options());
  const cuda::RmsBackwardArguments arguments{
      x.const_data_ptr(),
      dy.const_data_ptr(),
      norm.weight_D.const_data_ptr(),
      rstd.const_data_ptr<float>(),
      dx.mutable_data_ptr(),
      dweight == nullptr ? nullptr : partial.mutable_data_ptr<float>(),
      rows,
      static_cast<int>(columns),
      norm.offset,
      shared};
  launch_kernel(x.device(), "rms_backward", x.scalar_type(),
                {.x = blocks,
                 .threads = threads_for(columns / pack_of(x, columns), 512),
                 .shared_bytes = shared ? shared_bytes : 0},
                &arguments);
  if (dweight == nullptr) return dx;
  const cuda::RmsWeightArguments sum{partial.const_data_ptr<float>(),
                                     dweight->mutable_data_ptr<float>(), static_cast<int>(blocks),
                                     static_cast<int>(columns)};
  launch_kernel(x.device(), "rms_weight", at::kFloat, {.x = (columns + 31) / 32, .threads = 256},
                &sum);
  return dx;
}

void rope(const Rotation& rotation, const at::Tensor& x, const at::Tensor& positions, int64_t heads,
          bool inverse) {
  const auto dtype = x.scalar_type();
  if (!fused_dtype(dtype) || x.stride(1) != 1 || !whole(rotation.cos_PD, dtype) ||
      !whole(rotation.sin_PD, dtype) || !whole(positions, at::kLong))
    return reference_kernels().rope(rotation, x, positions, heads, inverse);
  const int64_t rows = x.size(0), half = rotation.cos_PD.size(1);
  if (rows == 0) return;
  const cuda::RopeArguments arguments{x.mutable_data_ptr(),
                                      x.stride(0),
                                      integers(positions),
                                      rotation.cos_PD.const_data_ptr(),
                                      rotation.sin_PD.const_data_ptr(),
                                      rows,
                                      static_cast<int>(heads),
                                      static_cast<int>(rotation.head_dim),
                                      static_cast<int>(half),
                                      rotation.interleaved,
                                      inverse ? -1.0f : 1.0f};
  const int64_t pack = rotation.interleaved ? 1 : pack_of(x, half);
  launch_kernel(x.device(), "rope", dtype,
                {.x = blocks_for(rows), .threads = threads_for(heads * half / pack, 256)},
                &arguments);
}

/** Blocks over rows of that many columns, and over their columns. */
Grid columns_grid(const at::Tensor& x, int64_t rows, int64_t columns) {
  const int64_t packs = columns / pack_of(x, columns);
  const int threads = threads_for(packs, 256);
  return {.x = blocks_for(rows),
          .y = std::min<int64_t>((packs + threads - 1) / threads, 1024),
          .threads = threads};
}

at::Tensor swiglu(const at::Tensor& gate_up) {
  if (!fused(gate_up)) return reference_kernels().swiglu(gate_up);
  const int64_t rows = gate_up.size(0), columns = gate_up.size(1) / 2;
  auto y = at::empty({rows, columns}, gate_up.options());
  if (rows == 0) return y;
  const cuda::SwigluArguments arguments{gate_up.const_data_ptr(), nullptr, y.mutable_data_ptr(),
                                        rows, static_cast<int>(columns)};
  launch_kernel(gate_up.device(), "swiglu", gate_up.scalar_type(),
                columns_grid(gate_up, rows, columns), &arguments);
  return y;
}

at::Tensor swiglu_backward(const at::Tensor& gate_up, const at::Tensor& dy) {
  if (!fused(gate_up) || !whole(dy, gate_up.scalar_type()))
    return reference_kernels().swiglu_backward(gate_up, dy);
  const int64_t rows = gate_up.size(0), columns = gate_up.size(1) / 2;
  auto result = at::empty_like(gate_up);
  if (rows == 0) return result;
  const cuda::SwigluArguments arguments{gate_up.const_data_ptr(), dy.const_data_ptr(),
                                        result.mutable_data_ptr(), rows, static_cast<int>(columns)};
  launch_kernel(gate_up.device(), "swiglu_backward", gate_up.scalar_type(),
                columns_grid(gate_up, rows, columns), &arguments);
  return result;
}

void add_rows(at::Tensor& grad, const at::Tensor& ids, const at::Tensor& dy,
              std::optional<int64_t> padding_id) {
  if (!whole(grad, at::kFloat) || !fused(dy) || !whole(ids, at::kLong))
    return reference_kernels().add_rows(grad, ids, dy, padding_id);
  if (ids.numel() == 0) return;
  const cuda::AddRowsArguments arguments{
      grad.mutable_data_ptr<float>(), integers(ids), dy.const_data_ptr(),
      padding_id.value_or(-1),        ids.numel(),   static_cast<int>(dy.size(1))};
  launch_kernel(dy.device(), "add_rows", dy.scalar_type(),
                {.x = blocks_for(ids.numel()), .threads = threads_for(dy.size(1), 256)},
                &arguments);
}

/** Rows of whole numbers, wherever they begin. */
bool has_rows(const at::Tensor& x) { return x.size(1) <= 1 || x.stride(1) == 1; }

void label_losses(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& scales,
                  at::Tensor& losses, at::Tensor& dlogits) {
  const bool gradient = scales.defined();
  if (logits.scalar_type() != at::kFloat || !has_rows(logits) || !whole(targets, at::kLong) ||
      !has_rows(losses) ||
      (gradient &&
       (!has_rows(scales) || !has_rows(dlogits) || !fused_dtype(dlogits.scalar_type()))))
    return reference_kernels().label_losses(logits, targets, scales, losses, dlogits);
  const int64_t rows = logits.size(0), columns = logits.size(1);
  if (rows == 0) return;
  const cuda::LabelLossesArguments arguments{logits.const_data_ptr<float>(),
                                             integers(targets),
                                             gradient ? scales.const_data_ptr<double>() : nullptr,
                                             losses.mutable_data_ptr<double>(),
                                             gradient ? dlogits.mutable_data_ptr() : nullptr,
                                             logits.stride(0),
                                             gradient ? scales.stride(0) : 0,
                                             losses.stride(0),
                                             gradient ? dlogits.stride(0) : 0,
                                             static_cast<int>(rows),
                                             static_cast<int>(columns)};
  launch_kernel(logits.device(), "label_losses", gradient ? dlogits.scalar_type() : at::kFloat,
                {.x = rows, .threads = threads_for(columns / 4, 512)}, &arguments);
}

void nf4_decoded(const Nf4& matrix, at::Tensor& out) {
  if (!fused(out)) return nf4_values(matrix, out);
  const bool coded = matrix.scale_code.defined();
  const int64_t count = matrix.values();
  if (count == 0) return;
  const cuda::Nf4Arguments arguments{matrix.codes.const_data_ptr<uint8_t>(),
                                     matrix.scales.const_data_ptr(),
                                     coded ? matrix.scale_code.const_data_ptr<float>() : nullptr,
                                     coded ? matrix.scale_scales.const_data_ptr<float>() : nullptr,
                                     matrix.scale_offset,
                                     out.mutable_data_ptr(),
                                     count};
  launch_kernel(out.device(), "nf4", out.scalar_type(),
                {.x = std::min<int64_t>((count + 2047) / 2048, 1 << 20), .threads = 256},
                &arguments);
}

at::Tensor dropout(const at::Tensor& x, at::ScalarType dtype, double p, uint64_t seed,
                   uint32_t stream) {
  if (!fused_dtype(dtype)) return reference_kernels().dropout(x, dtype, p, seed, stream);
  auto mask = at::empty(x.sizes(), x.options().dtype(dtype));
  const int64_t count = mask.numel();
  if (count == 0) return mask;
  const auto key = core::philox_key(seed);
  // bits / 2^32 < p is bits < ceil(p 2^32): the product is exact.
  const cuda::DropoutArguments arguments{mask.mutable_data_ptr(),
                                         count,
                                         {key[0], key[1]},
                                         stream,
                                         static_cast<uint32_t>(core::Stream::dropout),
                                         static_cast<uint64_t>(std::ceil(p * 0x1.0p32)),
                                         static_cast<float>(1 / (1 - p))};
  launch_kernel(mask.device(), "dropout", dtype,
                {.x = std::min<int64_t>((count + 1023) / 1024, 1 << 20), .threads = 256},
                &arguments);
  return mask;
}

}  // namespace

void use_fused_kernels(Kernels& kernels, at::Device device) {
  if (core::cuda_kernels(device).source == core::KernelSource::none) return;
  kernels.rms = rms;
  kernels.rms_backward = rms_backward;
  kernels.rope = rope;
  kernels.swiglu = swiglu;
  kernels.swiglu_backward = swiglu_backward;
  kernels.add_rows = add_rows;
  kernels.label_losses = label_losses;
  kernels.nf4_values = nf4_decoded;
  kernels.dropout = dropout;
}

}  // namespace posttrain::device
