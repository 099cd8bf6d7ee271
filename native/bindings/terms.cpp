#include "bindings/terms.h"

#include "bindings/convert.h"
#include "bindings/owned.h"

namespace posttrain::bindings {

bool ObjectFields::has(const char* name) const { return has_value(object_, name); }

double ObjectFields::number(const char* name, std::optional<double> absent) const {
  return number_field(object_, name, absent);
}

int64_t ObjectFields::integer(const char* name, std::optional<int64_t> absent) const {
  return integer_field(object_, name, absent);
}

bool ObjectFields::boolean(const char* name, std::optional<bool> absent) const {
  return boolean_field(object_, name, absent);
}

std::string ObjectFields::string(const char* name) const { return string_field(object_, name); }

std::vector<double> ObjectFields::doubles(const char* name) const {
  return doubles_field(object_, name);
}

std::vector<int32_t> ObjectFields::int32s(const char* name) const {
  return int32s_field(object_, name);
}

std::vector<uint8_t> ObjectFields::bytes(const char* name) const {
  return bytes_field(object_, name);
}

std::shared_ptr<models::Role> ObjectFields::role(const char* name) const {
  const auto role = unwrap_as<OwnedRole>(object_.Get(name), kRole);
  if (uses_ != nullptr) uses_->push_back(role);
  return role->object;
}

Terms terms_of(const Napi::Value& value) {
  TORCH_CHECK_VALUE(value.IsArray(), "[backward] terms must be an array");
  const auto array = value.As<Napi::Array>();
  Terms result;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const ObjectFields fields(object_of(array.Get(i), "terms[i]"), &result.uses);
    result.terms.push_back(train::read_term(fields));
  }
  return result;
}

}  // namespace posttrain::bindings
