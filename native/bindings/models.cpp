#include "bindings/convert.h"
#include "bindings/engine.h"
#include "bindings/module.h"
#include "bindings/owned.h"
#include "core/dtype.h"
#include "core/tensor_file.h"
#include "core/transfer.h"
#include "models/weights.h"

namespace posttrain::bindings {
namespace {

void use_adapter(models::Role& role, const std::shared_ptr<models::Adapter>& adapter) {
  TORCH_CHECK_VALUE(adapter->base() == role.base, "[role] the adapter belongs to another base");
  role.adapter = adapter;
}

/** Objects that a job keeps alive; null entries are skipped. */
std::vector<std::shared_ptr<Owned>> holding(const std::shared_ptr<Owned>& one,
                                            const std::shared_ptr<Owned>& other) {
  std::vector<std::shared_ptr<Owned>> held{one};
  if (other != nullptr) held.push_back(other);
  return held;
}

Napi::Value create_base(const Napi::CallbackInfo& info) {
  auto spec = decoder_spec_of(info[0]);
  const auto options = object_of(info[1], "options");
  const auto device = core::device_of(string_field(options, "device"));
  const auto dtype = core::scalar_type_of_name(string_field(options, "dtype"));
  const bool coded = boolean_field(options, "nf4", false);
  return submit(
      info.Env(), {}, nullptr, [spec = std::move(spec), device, dtype, coded](const core::Cancel&) {
        return handle_reply(kBase, std::make_shared<models::Decoder>(spec, device, dtype, coded));
      });
}

Napi::Value copy_base(const Napi::CallbackInfo& info) {
  const auto from = unwrap_as<OwnedBase>(info[0], kBase);
  return submit(info.Env(), {from}, nullptr, [from](const core::Cancel&) {
    auto& source = *from->object;
    auto copy = std::make_shared<models::Decoder>(source.spec(), source.device(), source.dtype(),
                                                  source.coded());
    copy->copy_from(source);
    return handle_reply(kBase, std::move(copy));
  });
}

Napi::Value create_role(const Napi::CallbackInfo& info) {
  const auto base = unwrap_as<OwnedBase>(info[0], kBase);
  const auto options = object_of(info[1], "options");
  const auto adapter = has_value(options, "adapter")
                           ? unwrap_as<OwnedAdapter>(options.Get("adapter"), kAdapter)
                           : nullptr;
  const auto score =
      has_value(options, "score") ? object_of(options.Get("score"), "score") : Napi::Object();
  const bool scored = has_value(options, "score");
  std::optional<uint64_t> seed;
  if (scored && has_value(score, "seed"))
    seed = static_cast<uint64_t>(integer_field(score, "seed"));
  return submit(info.Env(), holding(base, adapter), nullptr, [=](const core::Cancel&) {
    auto role = std::make_shared<models::Role>(base->object);
    if (adapter != nullptr) use_adapter(*role, adapter->object);
    if (scored) role->add_score(seed);
    return handle_reply(kRole, std::move(role));
  });
}

Napi::Value set_adapter(const Napi::CallbackInfo& info) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  const auto adapter = info[1].IsNull() ? nullptr : unwrap_as<OwnedAdapter>(info[1], kAdapter);
  return submit(info.Env(), holding(role, adapter), nullptr, [=](const core::Cancel&) {
    if (adapter == nullptr) {
      role->object->adapter = nullptr;
    } else {
      use_adapter(*role->object, adapter->object);
    }
    return undefined_reply();
  });
}

Napi::Value initialize(const Napi::CallbackInfo& info) {
  const auto base = unwrap_as<OwnedBase>(info[0], kBase);
  const auto options = object_of(info[1], "options");
  const auto seed = static_cast<uint64_t>(integer_field(options, "seed"));
  const double std = number_field(options, "std"),
               residual_scale = number_field(options, "residualScale");
  return submit(info.Env(), {base}, nullptr, [=](const core::Cancel&) {
    base->object->initialize(seed, std, residual_scale);
    return undefined_reply();
  });
}

Napi::Value read_header(const Napi::CallbackInfo& info) {
  const auto path = string_of(info[0], "path");
  return submit(info.Env(), {}, nullptr, [path](const core::Cancel&) -> Reply {
    const core::TensorFile file(path);
    return [header = file.header()](Napi::Env env) -> Napi::Value {
      auto result = Napi::Object::New(env);
      auto tensors = Napi::Array::New(env, header.entries.size());
      for (size_t i = 0; i < header.entries.size(); ++i) {
        const auto& entry = header.entries[i];
        auto tensor = Napi::Object::New(env);
        tensor.Set("name", entry.name);
        tensor.Set("dtype", entry.dtype);
        auto shape = Napi::Array::New(env, entry.shape.size());
        for (size_t d = 0; d < entry.shape.size(); ++d)
          shape.Set(d, static_cast<double>(entry.shape[d]));
        tensor.Set("shape", shape);
        tensors.Set(i, tensor);
      }
      // A null prototype: a key of a file may be named __proto__.
      auto metadata = Napi::Object::New(env);
      for (const auto& [key, value] : header.metadata) {
        metadata.DefineProperty(Napi::PropertyDescriptor::Value(
            Napi::String::New(env, key), Napi::String::New(env, value),
            static_cast<napi_property_attributes>(napi_enumerable | napi_configurable |
                                                  napi_writable)));
      }
      result.Set("tensors", tensors);
      result.Set("metadata", metadata);
      return result;
    };
  });
}

Napi::Value load_tensors(const Napi::CallbackInfo& info) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  TORCH_CHECK_VALUE(info[1].IsArray(), "[boundary] files must be an array");
  const auto array = info[1].As<Napi::Array>();
  std::vector<std::pair<std::string, std::vector<models::WeightMapEntry>>> files;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto file = object_of(array.Get(i), "files[i]");
    files.emplace_back(string_field(file, "path"), weight_map_of(file.Get("entries")));
  }
  return submit(info.Env(), {role}, cancel_of(info[2]),
                [role, files = std::move(files)](const core::Cancel& cancel) {
                  for (const auto& [path, entries] : files)
                    models::load_weights(*role->object, path, entries, cancel);
                  return undefined_reply();
                });
}

Napi::Value same_tensors(const Napi::CallbackInfo& info) {
  const auto base = unwrap_as<OwnedBase>(info[0], kBase);
  const auto path = string_of(info[1], "path");
  return submit(info.Env(), {base}, cancel_of(info[3]),
                [=, entries = weight_map_of(info[2])](const core::Cancel& cancel) -> Reply {
                  const auto same = models::same_weights(*base->object, path, entries, cancel);
                  return [same](Napi::Env env) -> Napi::Value {
                    auto result = Napi::Array::New(env, same.size());
                    for (size_t i = 0; i < same.size(); ++i)
                      result.Set(static_cast<uint32_t>(i), Napi::Boolean::New(env, same[i]));
                    return result;
                  };
                });
}

Napi::Value save_tensors(const Napi::CallbackInfo& info) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  const auto path = string_of(info[1], "path");
  auto entries = weight_map_of(info[2]);
  const auto options = object_of(info[3], "options");
  const auto dtype = core::scalar_type_of_name(string_field(options, "dtype"));
  std::map<std::string, std::string> metadata;
  const auto object = object_of(options.Get("metadata"), "metadata");
  const auto names = object.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const auto name = names.Get(i).As<Napi::String>().Utf8Value();
    metadata[name] = string_field(object, name.c_str());
  }
  return submit(info.Env(), {role}, cancel_of(info[4]),
                [=, entries = std::move(entries)](const core::Cancel& cancel) {
                  models::save_weights(*role->object, path, entries, dtype, metadata, cancel);
                  return undefined_reply();
                });
}

Napi::Value parameters(const Napi::CallbackInfo& info) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  return submit(info.Env(), {role}, nullptr, [role](const core::Cancel&) -> Reply {
    struct Item {
      std::string name;
      std::vector<int64_t> shape;
      std::string dtype;
      bool trainable;
      std::vector<int64_t> plain_rows;
    };
    std::vector<Item> items;
    for (const auto* parameter : role->object->parameters())
      items.push_back(
          {parameter->name, parameter->sizes().vec(),
           parameter->coded == nullptr ? core::name_of_scalar_type(parameter->value.scalar_type())
                                       : "nf4",
           parameter->trainable,
           parameter->coded == nullptr ? std::vector<int64_t>() : parameter->coded->plain_rows()});
    return [items = std::move(items)](Napi::Env env) -> Napi::Value {
      auto result = Napi::Array::New(env, items.size());
      for (size_t i = 0; i < items.size(); ++i) {
        auto item = Napi::Object::New(env);
        item.Set("parameter", items[i].name);
        auto shape = Napi::Array::New(env);
        for (size_t d = 0; d < items[i].shape.size(); ++d)
          shape.Set(static_cast<uint32_t>(d), static_cast<double>(items[i].shape[d]));
        item.Set("shape", shape);
        item.Set("dtype", items[i].dtype);
        auto plain = Napi::Array::New(env, items[i].plain_rows.size());
        for (size_t d = 0; d < items[i].plain_rows.size(); ++d)
          plain.Set(static_cast<uint32_t>(d), static_cast<double>(items[i].plain_rows[d]));
        item.Set("plainRows", plain);
        item.Set("trainable", items[i].trainable);
        result.Set(static_cast<uint32_t>(i), item);
      }
      return result;
    };
  });
}

Napi::Value get_tensor(const Napi::CallbackInfo& info) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  const auto entry = weight_map_entry_of(info[1]);
  const auto which = string_of(info[2], "which");
  TORCH_CHECK_VALUE(which == "value" || which == "gradient",
                    "[boundary] which must be value or gradient, got ", which);
  const bool gradient = which == "gradient";
  return submit(info.Env(), {role}, nullptr, [=](const core::Cancel&) -> Reply {
    const auto values = core::on_host(models::view_of(*role->object, entry, gradient), at::kFloat);
    return [values](Napi::Env env) -> Napi::Value {
      auto result = Napi::Object::New(env);
      auto shape = Napi::Array::New(env);
      for (int64_t d = 0; d < values.dim(); ++d)
        shape.Set(static_cast<uint32_t>(d), static_cast<double>(values.size(d)));
      result.Set("shape", shape);
      result.Set("values", float32_array(env, values.const_data_ptr<float>(), values.numel()));
      return result;
    };
  });
}

Napi::Value set_tensor(const Napi::CallbackInfo& info) {
  const auto role = unwrap_as<OwnedRole>(info[0], kRole);
  const auto entry = weight_map_entry_of(info[1]);
  auto values = floats_of(info[2], "values");
  return submit(info.Env(), {role}, nullptr, [=, values = std::move(values)](const core::Cancel&) {
    const auto shape = models::shape_of(*role->object, entry);
    const auto tensor = at::tensor(values, at::kFloat);
    TORCH_CHECK_VALUE(tensor.numel() == c10::multiply_integers(shape), "[setParameter] ",
                      entry.name, " has ", c10::multiply_integers(shape), " values, got ",
                      tensor.numel());
    models::set_values(*role->object, entry, tensor.view(shape));
    return undefined_reply();
  });
}

}  // namespace

void register_models(Napi::Env env, Napi::Object exports) {
  exports.Set("createBase", method(env, create_base));
  exports.Set("copyBase", method(env, copy_base));
  exports.Set("createRole", method(env, create_role));
  exports.Set("setAdapter", method(env, set_adapter));
  exports.Set("initialize", method(env, initialize));
  exports.Set("readHeader", method(env, read_header));
  exports.Set("loadTensors", method(env, load_tensors));
  exports.Set("sameTensors", method(env, same_tensors));
  exports.Set("saveTensors", method(env, save_tensors));
  exports.Set("parameters", method(env, parameters));
  exports.Set("getTensor", method(env, get_tensor));
  exports.Set("setTensor", method(env, set_tensor));
}

}  // namespace posttrain::bindings
