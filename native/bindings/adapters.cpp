#include "bindings/convert.h"
#include "bindings/engine.h"
#include "bindings/module.h"
#include "bindings/owned.h"

namespace posttrain::bindings {
namespace {

void read_rows(const Napi::Object& item, int64_t* first, int64_t* count) {
  if (!has_value(item, "rows")) return;
  TORCH_CHECK_VALUE(item.Get("rows").IsArray(), "[adapter] rows must be an array");
  const auto rows = item.Get("rows").As<Napi::Array>();
  *first = rows.Get(0u).ToNumber().Int64Value();
  *count = rows.Get(1u).ToNumber().Int64Value();
}

models::Initial initial_of(const std::string& name) {
  if (name == "pissa") return models::Initial::pissa;
  if (name == "olora") return models::Initial::olora;
  TORCH_CHECK_VALUE(false, "[adapter] takenOut must be pissa or olora, got ", name);
}

models::AdapterModule module_of(const Napi::Object& item) {
  models::AdapterModule module{.name = string_field(item, "name"),
                               .layer = integer_field(item, "layer"),
                               .linear = string_field(item, "linear"),
                               .rank = integer_field(item, "rank"),
                               .scale = number_field(item, "scale")};
  read_rows(item, &module.first_row, &module.rows);
  if (has_value(item, "sharedWith")) module.shared_with = string_field(item, "sharedWith");
  if (has_value(item, "takenOut")) module.initial = initial_of(string_field(item, "takenOut"));
  return module;
}

models::AdapterCopy copy_of(const Napi::Object& item) {
  models::AdapterCopy copy{.name = string_field(item, "name"),
                           .parameters = {},
                           .trainable = boolean_field(item, "trainable")};
  read_rows(item, &copy.first_row, &copy.rows);
  TORCH_CHECK_VALUE(item.Get("parameters").IsArray(), "[adapter] parameters must be an array");
  const auto names = item.Get("parameters").As<Napi::Array>();
  for (uint32_t i = 0; i < names.Length(); ++i)
    copy.parameters.push_back(string_of(names.Get(i), "parameters[i]"));
  return copy;
}

Napi::Array array_field(const Napi::Object& object, const char* name) {
  TORCH_CHECK_VALUE(object.Get(name).IsArray(), "[adapter] ", name, " must be an array");
  return object.Get(name).As<Napi::Array>();
}

Napi::Value create_adapter(const Napi::CallbackInfo& info) {
  const auto base = unwrap_as<OwnedBase>(info[0], kBase);
  const auto options = object_of(info[1], "options");
  models::AdapterSpec spec;
  spec.dropout = number_field(options, "dropout");
  spec.dora = boolean_field(options, "dora");
  const auto seed = static_cast<uint64_t>(integer_field(options, "seed"));
  const auto modules = array_field(options, "modules"), copies = array_field(options, "copies");
  for (uint32_t i = 0; i < modules.Length(); ++i)
    spec.modules.push_back(module_of(object_of(modules.Get(i), "modules[i]")));
  for (uint32_t i = 0; i < copies.Length(); ++i)
    spec.copies.push_back(copy_of(object_of(copies.Get(i), "copies[i]")));
  return submit(info.Env(), {base}, nullptr, [=, spec = std::move(spec)](const core::Cancel&) {
    auto adapter = std::make_shared<models::Adapter>(base->object, spec);
    adapter->initialize(seed);
    return handle_reply(kAdapter, std::move(adapter));
  });
}

Napi::Value copy_adapter(const Napi::CallbackInfo& info) {
  const auto from = unwrap_as<OwnedAdapter>(info[0], kAdapter);
  const auto to = unwrap_as<OwnedAdapter>(info[1], kAdapter);
  return submit(info.Env(), {from, to}, nullptr, [=](const core::Cancel&) {
    to->object->copy_from(*from->object);
    return undefined_reply();
  });
}

Napi::Value merge_adapter(const Napi::CallbackInfo& info) {
  const auto adapter = unwrap_as<OwnedAdapter>(info[0], kAdapter);
  const bool reads_head = boolean_field(object_of(info[1], "options"), "readsHead");
  return submit(info.Env(), {adapter}, nullptr, [=](const core::Cancel&) -> Reply {
    adapter->object->merge_into_base(reads_head);
    const bool tied = adapter->object->base()->spec().tied;
    return [tied](Napi::Env env) -> Napi::Value {
      auto result = Napi::Object::New(env);
      result.Set("tied", tied);
      return result;
    };
  });
}

}  // namespace

void register_adapters(Napi::Env env, Napi::Object exports) {
  exports.Set("createAdapter", method(env, create_adapter));
  exports.Set("copyAdapter", method(env, copy_adapter));
  exports.Set("mergeAdapter", method(env, merge_adapter));
}

}  // namespace posttrain::bindings
