#include <cstring>

#include "bindings/convert.h"
#include "bindings/module.h"
#include "bindings/owned.h"
#include "losses/cross_entropy.h"

namespace posttrain::bindings {
namespace {

/** A copy of a Float32Array or Float64Array as a matrix of its own precision. */
at::Tensor matrix_of(const Napi::Value& value, int64_t rows, int64_t columns, const char* what) {
  const bool typed = value.IsTypedArray();
  const auto type = typed ? value.As<Napi::TypedArray>().TypedArrayType() : napi_int8_array;
  TORCH_CHECK_VALUE(type == napi_float32_array || type == napi_float64_array, "[boundary] ", what,
                    " must be a Float32Array or a Float64Array");
  const auto array = value.As<Napi::TypedArray>();
  TORCH_CHECK_VALUE(rows >= 0 && columns > 0 &&
                        static_cast<double>(rows) * static_cast<double>(columns) ==
                            static_cast<double>(array.ElementLength()),
                    "[boundary] ", what, " has ", array.ElementLength(), " values, not ", rows,
                    " x ", columns);
  auto result = at::empty({rows, columns}, type == napi_float32_array ? at::kFloat : at::kDouble);
  const auto* source = static_cast<const uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset();
  if (array.ByteLength() > 0) std::memcpy(result.mutable_data_ptr(), source, array.ByteLength());
  return result;
}

Napi::Value array_of(Napi::Env env, const at::Tensor& values) {
  if (values.scalar_type() == at::kFloat)
    return float32_array(env, values.const_data_ptr<float>(), values.numel());
  auto result = Napi::Float64Array::New(env, values.numel());
  if (values.numel() > 0)
    std::memcpy(result.Data(), values.const_data_ptr<double>(), values.nbytes());
  return result;
}

Napi::Value cross_entropy(const Napi::CallbackInfo& info) {
  const auto options = object_of(info[2], "options");
  const auto logits = matrix_of(info[0], integer_field(options, "rows"),
                                integer_field(options, "columns"), "logits");
  auto labels = int32s_of(info[1], "labels");
  TORCH_CHECK_VALUE(static_cast<int64_t>(labels.size()) == logits.size(0),
                    "[crossEntropy] labels has ", labels.size(), " entries, logits has ",
                    logits.size(0), " rows");
  const int64_t ignore_index = integer_field(options, "ignoreIndex");
  const bool gradient = boolean_field(options, "gradient");
  return submit(
      info.Env(), {}, nullptr, [=, labels = std::move(labels)](const core::Cancel&) -> Reply {
        const auto result = losses::cross_entropy(logits, labels.data(), ignore_index, gradient);
        return [result](Napi::Env env) -> Napi::Value {
          auto object = Napi::Object::New(env);
          object.Set("loss", result.loss);
          object.Set("count", static_cast<double>(result.count));
          if (result.gradient.defined()) object.Set("gradient", array_of(env, result.gradient));
          return object;
        };
      });
}

}  // namespace

void register_losses(Napi::Env env, Napi::Object exports) {
  exports.Set("crossEntropy", method(env, cross_entropy));
}

}  // namespace posttrain::bindings
