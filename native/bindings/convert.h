#pragma once
#include <napi.h>

#include <optional>
#include <string>
#include <vector>

#include "models/spec.h"
#include "models/weights.h"
#include "train/batch.h"

namespace posttrain::bindings {

// JavaScript values to native ones. Everything is copied: a job never reads JavaScript memory.
// Each throws a ValueError naming the field when the type is wrong.

Napi::Object object_of(const Napi::Value& value, const std::string& what);
double number_field(const Napi::Object& object, const char* name,
                    std::optional<double> absent = std::nullopt);
int64_t integer_field(const Napi::Object& object, const char* name,
                      std::optional<int64_t> absent = std::nullopt);
bool boolean_field(const Napi::Object& object, const char* name,
                   std::optional<bool> absent = std::nullopt);
std::string string_field(const Napi::Object& object, const char* name);
std::string string_of(const Napi::Value& value, const std::string& what);
bool has_value(const Napi::Object& object, const char* name);
std::vector<int32_t> int32s_of(const Napi::Value& value, const std::string& what);
std::vector<float> floats_of(const Napi::Value& value, const std::string& what);
/** Copies a Float64Array or a Float32Array. */
std::vector<double> doubles_of(const Napi::Value& value, const std::string& what);
/** Copies a field of either type; empty if absent. */
std::vector<double> doubles_field(const Napi::Object& object, const char* name);
std::vector<int32_t> int32s_field(const Napi::Object& object, const char* name);
std::vector<uint8_t> bytes_field(const Napi::Object& object, const char* name);

models::DecoderSpec decoder_spec_of(const Napi::Value& value);
models::WeightMapEntry weight_map_entry_of(const Napi::Value& value);
std::vector<models::WeightMapEntry> weight_map_of(const Napi::Value& value);
train::Batch batch_of(const Napi::Value& value);

/** Copies values to JavaScript. */
Napi::Float32Array float32_array(Napi::Env env, const float* values, size_t count);
Napi::Float64Array float64_array(Napi::Env env, const std::vector<double>& values);
Napi::Int32Array int32_array(Napi::Env env, const std::vector<int32_t>& values);

}  // namespace posttrain::bindings
