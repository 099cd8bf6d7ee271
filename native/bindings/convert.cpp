#include "bindings/convert.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>

namespace posttrain::bindings {
namespace {

Napi::Value field(const Napi::Object& object, const char* name) { return object.Get(name); }

// None where the field is absent or null
std::optional<double> optional_number(const Napi::Object& object, const char* name) {
  if (!has_value(object, name)) return std::nullopt;
  return number_field(object, name);
}

std::optional<int64_t> optional_integer(const Napi::Object& object, const char* name) {
  if (!has_value(object, name)) return std::nullopt;
  return integer_field(object, name);
}

// A factor or cap: finite and above 0
std::optional<double> optional_factor(const Napi::Object& object, const char* name) {
  const auto value = optional_number(object, name);
  TORCH_CHECK_VALUE(!value.has_value() || (std::isfinite(*value) && *value > 0), "[decoder] ", name,
                    " must be finite and above 0, got ", value.value_or(0));
  return value;
}

nn::RopeSpec rope_of(const Napi::Object& object) {
  nn::RopeSpec rope;
  rope.kind = nn::rope_kind_of(string_field(object, "kind"));
  rope.theta = number_field(object, "theta");
  rope.factor = number_field(object, "factor", rope.factor);
  rope.low_freq_factor = number_field(object, "lowFreqFactor", rope.low_freq_factor);
  rope.high_freq_factor = number_field(object, "highFreqFactor", rope.high_freq_factor);
  rope.original_max_positions =
      number_field(object, "originalMaxPositions", rope.original_max_positions);
  rope.beta_fast = number_field(object, "betaFast", rope.beta_fast);
  rope.beta_slow = number_field(object, "betaSlow", rope.beta_slow);
  rope.attention_factor = optional_number(object, "attentionFactor");
  rope.mscale = optional_number(object, "mscale");
  rope.mscale_all_dim = optional_number(object, "mscaleAllDim");
  rope.truncate = boolean_field(object, "truncate", rope.truncate);
  rope.rotary_dim = optional_integer(object, "rotaryDim");
  rope.interleaved = boolean_field(object, "interleaved", rope.interleaved);
  return rope;
}

models::LayerSpec layer_of(const Napi::Object& object) {
  models::LayerSpec layer;
  layer.heads = integer_field(object, "heads");
  layer.kv_heads = integer_field(object, "kvHeads");
  layer.head_dim = integer_field(object, "headDim");
  TORCH_CHECK_VALUE(layer.heads > 0 && layer.kv_heads > 0 && layer.head_dim > 0 &&
                        layer.heads % layer.kv_heads == 0,
                    "[decoder] heads must be a positive multiple of kvHeads, got ", layer.heads,
                    " and ", layer.kv_heads);
  layer.qkv_bias = boolean_field(object, "qkvBias");
  layer.out_bias = boolean_field(object, "outBias");
  layer.qk_norm = boolean_field(object, "qkNorm");
  layer.pre_norm = boolean_field(object, "preNorm", layer.pre_norm);
  layer.post_norm = boolean_field(object, "postNorm", layer.post_norm);
  layer.window = optional_integer(object, "window");
  TORCH_CHECK_VALUE(layer.window.value_or(1) >= 1, "[decoder] window must be at least 1, got ",
                    layer.window.value_or(1));
  layer.attention_scale = optional_factor(object, "attentionScale");
  TORCH_CHECK_VALUE(!has_value(object, "attentionSoftCap"),
                    "[decoder] a soft-cap of the attention scores is not supported");
  layer.residual_multiplier = optional_factor(object, "residualMultiplier");
  if (has_value(object, "rope")) layer.rope = rope_of(object_of(field(object, "rope"), "rope"));
  const auto mlp = object_of(field(object, "mlp"), "mlp");
  layer.mlp_kind = nn::mlp_kind_of(string_field(mlp, "kind"));
  layer.activation = nn::activation_of(string_field(mlp, "activation"));
  layer.intermediate_size = integer_field(mlp, "intermediateSize");
  layer.mlp_bias = boolean_field(mlp, "bias");
  return layer;
}

template <class T, class Array>
std::vector<T> copy_of(const Napi::Value& value, napi_typedarray_type type, const std::string& what,
                       const char* name) {
  TORCH_CHECK_VALUE(value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type,
                    "[boundary] ", what, " must be a ", name);
  const auto array = value.As<Array>();
  std::vector<T> result(array.ElementLength());
  if (!result.empty()) std::memcpy(result.data(), array.Data(), result.size() * sizeof(T));
  return result;
}

}  // namespace

Napi::Object object_of(const Napi::Value& value, const std::string& what) {
  TORCH_CHECK_VALUE(value.IsObject(), "[boundary] ", what, " must be an object");
  return value.As<Napi::Object>();
}

bool has_value(const Napi::Object& object, const char* name) {
  const auto value = field(object, name);
  return !value.IsUndefined() && !value.IsNull();
}

double number_field(const Napi::Object& object, const char* name, std::optional<double> absent) {
  const auto value = field(object, name);
  if (value.IsUndefined() && absent.has_value()) return *absent;
  TORCH_CHECK_VALUE(value.IsNumber(), "[boundary] ", name, " must be a number");
  return value.As<Napi::Number>().DoubleValue();
}

int64_t integer_field(const Napi::Object& object, const char* name, std::optional<int64_t> absent) {
  const double value = number_field(
      object, name, absent.has_value() ? std::optional<double>(*absent) : std::nullopt);
  TORCH_CHECK_VALUE(std::nearbyint(value) == value && std::abs(value) <= 9007199254740991.0,
                    "[boundary] ", name, " must be an integer, got ", value);
  return static_cast<int64_t>(value);
}

bool boolean_field(const Napi::Object& object, const char* name, std::optional<bool> absent) {
  const auto value = field(object, name);
  if (value.IsUndefined() && absent.has_value()) return *absent;
  TORCH_CHECK_VALUE(value.IsBoolean(), "[boundary] ", name, " must be true or false");
  return value.As<Napi::Boolean>().Value();
}

std::string string_of(const Napi::Value& value, const std::string& what) {
  TORCH_CHECK_VALUE(value.IsString(), "[boundary] ", what, " must be a string");
  return value.As<Napi::String>().Utf8Value();
}

std::string string_field(const Napi::Object& object, const char* name) {
  return string_of(field(object, name), name);
}

std::vector<int32_t> int32s_of(const Napi::Value& value, const std::string& what) {
  return copy_of<int32_t, Napi::Int32Array>(value, napi_int32_array, what, "Int32Array");
}

std::vector<float> floats_of(const Napi::Value& value, const std::string& what) {
  return copy_of<float, Napi::Float32Array>(value, napi_float32_array, what, "Float32Array");
}

std::vector<double> doubles_of(const Napi::Value& value, const std::string& what) {
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_float32_array) {
    const auto floats = floats_of(value, what);
    return {floats.begin(), floats.end()};
  }
  return copy_of<double, Napi::Float64Array>(value, napi_float64_array, what,
                                             "Float64Array or a Float32Array");
}

std::vector<double> doubles_field(const Napi::Object& object, const char* name) {
  return has_value(object, name) ? doubles_of(field(object, name), name) : std::vector<double>();
}

std::vector<int32_t> int32s_field(const Napi::Object& object, const char* name) {
  return has_value(object, name) ? int32s_of(field(object, name), name) : std::vector<int32_t>();
}

std::vector<uint8_t> bytes_field(const Napi::Object& object, const char* name) {
  if (!has_value(object, name)) return {};
  return copy_of<uint8_t, Napi::Uint8Array>(field(object, name), napi_uint8_array, name,
                                            "Uint8Array");
}

models::DecoderSpec decoder_spec_of(const Napi::Value& value) {
  const auto object = object_of(value, "spec");
  models::DecoderSpec spec;
  spec.vocab_size = integer_field(object, "vocabSize");
  spec.hidden_size = integer_field(object, "hiddenSize");
  TORCH_CHECK_VALUE(spec.vocab_size > 0 && spec.hidden_size > 0,
                    "[decoder] vocabSize and hiddenSize must be positive");
  spec.learned_positions = optional_integer(object, "learnedPositions");
  TORCH_CHECK_VALUE(spec.learned_positions.value_or(1) >= 1,
                    "[decoder] learnedPositions must be at least 1, got ",
                    spec.learned_positions.value_or(1));
  spec.padding_id = optional_integer(object, "paddingId");
  spec.embedding_multiplier = optional_factor(object, "embeddingMultiplier");
  spec.logit_multiplier = optional_factor(object, "logitMultiplier");
  spec.logit_soft_cap = optional_factor(object, "logitSoftCap");
  const auto norm = object_of(field(object, "norm"), "norm");
  spec.norm = {nn::norm_kind_of(string_field(norm, "kind")), number_field(norm, "eps"),
               boolean_field(norm, "offset", false)};
  TORCH_CHECK_VALUE(!spec.norm.offset || spec.norm.kind == nn::NormKind::rms,
                    "[decoder] norm.offset needs norm.kind rms");
  spec.tied = boolean_field(object, "tied");
  const auto layers = field(object, "layers");
  TORCH_CHECK_VALUE(layers.IsArray() && layers.As<Napi::Array>().Length() > 0,
                    "[decoder] layers must be an array of at least one");
  const auto array = layers.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i)
    spec.layers.push_back(layer_of(object_of(array.Get(i), "layers[i]")));
  return spec;
}

models::WeightMapEntry weight_map_entry_of(const Napi::Value& value) {
  const auto object = object_of(value, "weight map entry");
  models::WeightMapEntry entry{string_field(object, "name"), string_field(object, "parameter")};
  if (has_value(object, "rows")) {
    const auto rows = object_of(field(object, "rows"), "rows");
    entry.first_row = integer_field(rows, "0");
    entry.row_count = integer_field(rows, "1");
    TORCH_CHECK_VALUE(entry.row_count >= 0, "[weights] rows of ", entry.name,
                      " must not be negative");
  }
  entry.transpose = boolean_field(object, "transpose", false);
  if (has_value(object, "nf4")) {
    using Coding = models::WeightMapEntry::Coding;
    entry.coding = boolean_field(object, "nf4", false) ? Coding::in_file : Coding::none;
    if (has_value(object, "companions")) {
      const auto files = object.Get("companions").As<Napi::Array>();
      for (uint32_t i = 0; i < files.Length(); ++i)
        entry.companions.push_back(string_of(files.Get(i), "companions[i]"));
    }
  }
  return entry;
}

std::vector<models::WeightMapEntry> weight_map_of(const Napi::Value& value) {
  TORCH_CHECK_VALUE(value.IsArray(), "[boundary] entries must be an array");
  const auto array = value.As<Napi::Array>();
  std::vector<models::WeightMapEntry> entries;
  for (uint32_t i = 0; i < array.Length(); ++i)
    entries.push_back(weight_map_entry_of(array.Get(i)));
  return entries;
}

train::Batch batch_of(const Napi::Value& value) {
  const auto object = object_of(value, "batch");
  train::Batch batch;
  batch.input_ids = int32s_of(field(object, "inputIds"), "inputIds");
  batch.offsets = int32s_of(field(object, "offsets"), "offsets");
  if (has_value(object, "labels")) batch.labels = int32s_of(field(object, "labels"), "labels");
  if (has_value(object, "weights")) batch.weights = floats_of(field(object, "weights"), "weights");
  return batch;
}

Napi::Float32Array float32_array(Napi::Env env, const float* values, size_t count) {
  auto result = Napi::Float32Array::New(env, count);
  if (count > 0) std::memcpy(result.Data(), values, count * sizeof(float));
  return result;
}

Napi::Float64Array float64_array(Napi::Env env, const std::vector<double>& values) {
  auto result = Napi::Float64Array::New(env, values.size());
  if (!values.empty()) std::memcpy(result.Data(), values.data(), values.size() * sizeof(double));
  return result;
}

Napi::Int32Array int32_array(Napi::Env env, const std::vector<int32_t>& values) {
  auto result = Napi::Int32Array::New(env, values.size());
  if (!values.empty()) std::memcpy(result.Data(), values.data(), values.size() * sizeof(int32_t));
  return result;
}

}  // namespace posttrain::bindings
