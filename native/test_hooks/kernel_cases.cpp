// One of our kernels of CUDA and the reference on the same random numbers.
#include "test_hooks/kernel_cases.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cstdlib>
#include <limits>
#include <optional>

#include "bindings/convert.h"
#include "bindings/engine.h"
#include "bindings/module.h"
#include "core/cuda_kernels.h"
#include "device/kernels.h"
#include "test_hooks/cuda_emulator.h"
#include "test_hooks/guarded_memory.h"

namespace posttrain::bindings {
namespace {

using at::Tensor;

struct Output {
  std::string name;
  Tensor actual, expected;
};

/** Random numbers and shapes of one seed, on a device and in a dtype; the reference computes with
 * the same numbers in float32. */
class Case {
 public:
  Case(uint64_t seed, at::Device device, at::ScalarType dtype)
      : generator_(at::make_generator<at::CPUGeneratorImpl>(seed)), device(device), dtype(dtype) {
    fused = reference;
    device::use_fused_kernels(fused, device);
    odd_ = pick({0, 0, 1}) == 1;
  }

  int64_t pick(std::vector<int64_t> of) {
    const auto at = at::randint(static_cast<int64_t>(of.size()), {1}, generator_, at::kLong);
    return of[static_cast<size_t>(at.item<int64_t>())];
  }
  int64_t rows() { return pick({1, 2, 7, 40, 150}); }
  int64_t columns() { return pick({1, 6, 24, 64, 129, 520, 2048, 4097}); }

  /** In a third of the cases tensors begin one value behind an aligned address. */
  Tensor placed(const Tensor& values) const {
    const int64_t behind = odd_ ? 1 : 0;
    auto memory = at::empty({values.numel() + behind}, values.options().device(device));
    return memory.narrow(0, behind, values.numel()).view(values.sizes()).copy_(values);
  }
  Tensor normal(at::IntArrayRef sizes, at::ScalarType of) {
    return placed(at::randn(sizes, generator_, at::TensorOptions(at::kFloat)).to(of));
  }
  Tensor normal(at::IntArrayRef sizes) { return normal(sizes, dtype); }
  Tensor integers(int64_t below, at::IntArrayRef sizes) {
    return placed(at::randint(below, sizes, generator_, at::kLong));
  }

  const device::Kernels reference = device::reference_kernels();
  device::Kernels fused;
  std::vector<Output> outputs;

 private:
  at::Generator generator_;
  bool odd_ = false;

 public:
  const at::Device device;
  const at::ScalarType dtype;
};

Tensor wide(const Tensor& x) { return x.to(at::kFloat); }

void rms(Case& c) {
  // Also more rows than there are partial sums, and more columns than a block's memory has room for
  const int64_t kind = c.pick({0, 0, 0, 0, 1, 2});
  const int64_t rows = kind == 1 ? 1300 : kind == 2 ? 2 : c.rows();
  const int64_t columns = kind == 1 ? c.pick({6, 24, 129}) : kind == 2 ? 12100 : c.columns();
  const bool offset = c.pick({0, 1}) == 1;
  const auto x = c.normal({rows, columns}), weight = c.normal({columns});
  const auto dy = c.normal({rows, columns}), xw = wide(x), weight_w = wide(weight);
  Tensor rstd, rstd_w;
  const auto y = c.fused.rms({weight, 1e-5, offset}, x, rstd);
  const auto y_w = c.reference.rms({weight_w, 1e-5, offset}, xw, rstd_w);
  c.outputs = {{"y", y, y_w}, {"rstd", rstd, rstd_w}};
  auto dweight = c.normal({columns}, at::kFloat);
  auto dweight_w = dweight.clone();
  const bool trained = c.pick({0, 1, 1}) == 1;
  const auto dx =
      c.fused.rms_backward({weight, 1e-5, offset}, x, dy, rstd, trained ? &dweight : nullptr);
  const auto dx_w = c.reference.rms_backward({weight_w, 1e-5, offset}, xw, wide(dy), rstd_w,
                                             trained ? &dweight_w : nullptr);
  c.outputs.push_back({"dx", dx, dx_w});
  c.outputs.push_back({"dweight", dweight, dweight_w});
}

void rope(Case& c) {
  const int64_t rows = c.rows(), heads = c.pick({1, 3, 8}), head_dim = c.pick({2, 6, 16, 64, 128});
  const int64_t half = c.pick({1, head_dim / 2, head_dim / 2}), positions = 30;
  const bool inverse = c.pick({0, 1}) == 1, interleaved = c.pick({0, 1}) == 1;
  const auto cos = c.normal({positions, half}), sin = c.normal({positions, half});
  const auto at = c.integers(positions, {rows});
  // More columns than the heads have, of a wider matrix
  const int64_t width = heads * head_dim + c.pick({0, 8, 5});
  const auto whole = c.normal({rows, width + 16});
  const auto x = whole.narrow(1, 0, width);
  const auto expected = wide(whole);
  c.fused.rope({cos, sin, head_dim, interleaved}, x, at, heads, inverse);
  c.reference.rope({wide(cos), wide(sin), head_dim, interleaved}, expected.narrow(1, 0, width), at,
                   heads, inverse);
  c.outputs = {{"x", whole, expected}};
}

void swiglu(Case& c) {
  const int64_t rows = c.rows(), columns = c.columns();
  const auto gate_up = c.normal({rows, 2 * columns}).mul_(4), dy = c.normal({rows, columns});
  c.outputs = {{"y", c.fused.swiglu(gate_up), c.reference.swiglu(wide(gate_up))},
               {"dgate_up", c.fused.swiglu_backward(gate_up, dy),
                c.reference.swiglu_backward(wide(gate_up), wide(dy))}};
}

void label_losses(Case& c) {
  const int64_t rows = c.rows(), columns = c.columns(), padding = c.pick({0, 3, 60});
  const auto whole = c.normal({rows, columns + padding}, at::kFloat).mul_(c.pick({1, 20}));
  auto logits = whole.narrow(1, 0, columns);
  // Not finite: the first row, at some place
  const auto nothing = c.pick({0, 0, 1, 2, 3});
  if (nothing > 0) {
    const float inf = std::numeric_limits<float>::infinity();
    logits[0][c.pick({0, columns / 2, columns - 1})] =
        nothing == 1   ? inf
        : nothing == 2 ? -inf
                       : std::numeric_limits<float>::quiet_NaN();
  }
  const auto targets = c.integers(columns, {rows});
  // Of some rows of a longer pass
  auto losses = c.normal({3, rows + 5}, at::kFloat).to(at::kDouble).narrow(1, 2, rows);
  auto scales = c.normal({2, rows + 5}, at::kFloat).to(at::kDouble).narrow(1, 1, rows);
  if (c.pick({0, 1}) == 1) scales[1].zero_();
  if (c.pick({0, 1, 1}) == 0) scales = Tensor();
  // In its own place, or the logits'
  auto dlogits = c.dtype == at::kFloat && c.pick({0, 1}) == 1
                     ? logits
                     : c.normal({rows, columns + c.pick({0, 8})}).narrow(1, 0, columns);

  auto expected = at::empty({3, rows}, at::kDouble);
  auto gradient = logits.cpu().to(at::kDouble);
  auto* values = expected.mutable_data_ptr<double>();
  std::vector<uint8_t> correct(static_cast<size_t>(rows));
  const auto of_host = scales.defined() ? scales.cpu().contiguous() : Tensor();
  device::ScaleOf scale_of;
  if (scales.defined())
    scale_of = [&](int64_t r, const device::RowLoss&) {
      const auto* of = of_host.const_data_ptr<double>();
      return device::RowScale{of[r], of[rows + r]};
    };
  const auto host_targets = targets.cpu();
  device::cpu_kernels(at::kDouble)
      .label_rows(gradient, host_targets.const_data_ptr<int64_t>(), 0, scale_of, values,
                  values + rows, correct.data());
  for (int64_t r = 0; r < rows; ++r) values[2 * rows + r] = correct[static_cast<size_t>(r)];
  c.fused.label_losses(logits, targets, scales, losses, dlogits);
  c.outputs = {{"losses", losses, expected}};
  if (scales.defined()) c.outputs.push_back({"gradient", dlogits, gradient});
}

void add_rows(Case& c) {
  const int64_t tokens = c.pick({1, 5, 300, 700}), columns = c.columns(), vocabulary = 23;
  const auto ids = c.integers(vocabulary, {tokens}), dy = c.normal({tokens, columns});
  auto grad = c.normal({vocabulary, columns}, at::kFloat);
  auto expected = grad.cpu().clone();
  const auto padding = c.pick({0, 1}) == 1 ? std::optional<int64_t>(4) : std::nullopt;
  c.fused.add_rows(grad, ids, dy, padding);
  // In the same order, to the bit
  device::cpu_kernels(at::kFloat).add_rows(expected, ids.cpu(), wide(dy).cpu(), padding);
  c.outputs = {{"exact", grad, expected}};
}

void nf4(Case& c) {
  const int64_t rows = c.rows(), columns = c.columns();
  auto matrix = device::nf4_of(c.normal({rows, columns}).cpu());
  if (c.pick({0, 1}) == 1) {
    matrix.scales = device::nf4_scales(matrix);
    matrix.scale_code = matrix.scale_scales = Tensor();
  }
  matrix = matrix.on(c.device);
  auto actual = c.placed(at::empty({rows, columns}, at::TensorOptions(c.dtype)));
  auto expected = at::empty_like(actual);
  c.fused.nf4_values(matrix, actual);
  c.reference.nf4_values(matrix, expected);
  c.outputs = {{"exact", actual, expected}};
}

void dropout(Case& c) {
  // A thread writes four values, or the 1, 2 or 3 that are left.
  const auto x = c.normal({c.pick({1, 2, 3, 40}), c.pick({1, 65, 129, 520})});
  const double p = static_cast<double>(c.pick({0, 10, 50, 90})) / 100;
  const auto seed = static_cast<uint64_t>(c.pick({1, 77, int64_t{1} << 40}));
  c.outputs = {{"exact", c.fused.dropout(x, c.dtype, p, seed, 9),
                c.reference.dropout(x, c.dtype, p, seed, 9)}};
}

void run(const std::string& kernel, Case& c) {
  if (kernel == "rms") return rms(c);
  if (kernel == "rope") return rope(c);
  if (kernel == "swiglu") return swiglu(c);
  if (kernel == "label_losses") return label_losses(c);
  if (kernel == "add_rows") return add_rows(c);
  if (kernel == "nf4") return nf4(c);
  if (kernel == "dropout") return dropout(c);
  TORCH_CHECK_VALUE(false, "no such kernel: ", kernel);
}

Napi::Value array_of(Napi::Env env, const Tensor& tensor) {
  const auto values = tensor.cpu().to(at::kFloat).contiguous();
  return float32_array(env, values.const_data_ptr<float>(), static_cast<size_t>(values.numel()));
}

// kernelCase(kernel, device, dtype, seed): { outputs: [{ name, actual, expected }], launches,
// guarded }
Napi::Value kernel_case(const Napi::CallbackInfo& info) {
  const auto kernel = info[0].ToString().Utf8Value();
  const at::Device device(info[1].ToString().Utf8Value());
  const auto name = info[2].ToString().Utf8Value();
  const auto dtype = name == "float32"    ? at::kFloat
                     : name == "bfloat16" ? at::kBFloat16
                     : name == "float16"  ? at::kHalf
                                          : at::kDouble;
  const auto seed = static_cast<uint64_t>(info[3].ToNumber().Int64Value());
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) -> Reply {
    const int64_t before = core::kernel_launches();
    std::vector<Output> outputs;
    bool guarded = true;
    {
      const emulator::GuardedMemory memory;
      Case of(seed, device, dtype);
      run(kernel, of);
      for (auto& [what, actual, expected] : of.outputs)
        outputs.push_back({what, actual.cpu(), expected.cpu()});
      guarded = emulator::GuardedMemory::holds();
    }
    return [outputs, guarded,
            launches = core::kernel_launches() - before](Napi::Env env) -> Napi::Value {
      auto list = Napi::Array::New(env);
      for (uint32_t i = 0; i < outputs.size(); ++i) {
        auto output = Napi::Object::New(env);
        output.Set("name", outputs[i].name);
        output.Set("actual", array_of(env, outputs[i].actual));
        output.Set("expected", array_of(env, outputs[i].expected));
        list.Set(i, output);
      }
      auto result = Napi::Object::New(env);
      result.Set("outputs", list);
      result.Set("guarded", guarded);
      result.Set("launches", static_cast<double>(launches));
      return result;
    };
  });
}

// driverFaults({ launch, fatbin, noCompiler }): what the driver of the emulator answers from now
// on, to kernels that are loaded again
Napi::Value driver_faults(const Napi::CallbackInfo& info) {
  const auto faults = object_of(info[0], "faults");
  emulator::faults() = {static_cast<int>(number_field(faults, "launch")),
                        static_cast<int>(number_field(faults, "fatbin")),
                        boolean_field(faults, "noCompiler")};
  core::forget_cuda_kernels();
  return info.Env().Undefined();
}

// kernelSource(): fatbin, nvrtc, or why there are no kernels
Napi::Value kernel_source(const Napi::CallbackInfo& info) {
  const auto& found = core::cuda_kernels(at::Device(at::kCPU));
  return Napi::String::New(info.Env(), found.source == core::KernelSource::fatbin  ? "fatbin"
                                       : found.source == core::KernelSource::nvrtc ? "nvrtc"
                                                                                   : found.problem);
}

}  // namespace

void add_kernel_hooks(Napi::Env env, Napi::Object hooks) {
  // On a machine with a device, too, most tests compute on the CPU, whose memory it cannot read.
  const char* device = std::getenv("POSTTRAIN_TEST_DEVICE");
  emulator::install_driver(device != nullptr && at::Device(device).is_cuda() && at::hasCUDA());
  hooks.Set("kernelCase", method(env, kernel_case));
  hooks.Set("kernelSource", synchronous_method(env, kernel_source));
  hooks.Set("driverFaults", synchronous_method(env, driver_faults));
}

}  // namespace posttrain::bindings
