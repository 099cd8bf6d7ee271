#pragma once
#include <napi.h>

#include <memory>
#include <vector>

#include "bindings/engine.h"
#include "train/terms/terms.h"

namespace posttrain::bindings {

/** The fields of a JavaScript object; `uses`, unless null, collects the handles that are read. */
class ObjectFields final : public train::Fields {
 public:
  explicit ObjectFields(Napi::Object object, std::vector<std::shared_ptr<Owned>>* uses = nullptr)
      : object_(object), uses_(uses) {}
  bool has(const char* name) const override;
  double number(const char* name, std::optional<double> absent) const override;
  int64_t integer(const char* name, std::optional<int64_t> absent) const override;
  bool boolean(const char* name, std::optional<bool> absent) const override;
  std::string string(const char* name) const override;
  std::vector<double> doubles(const char* name) const override;
  std::vector<int32_t> int32s(const char* name) const override;
  std::vector<uint8_t> bytes(const char* name) const override;
  std::shared_ptr<models::Role> role(const char* name) const override;

 private:
  Napi::Object object_;
  std::vector<std::shared_ptr<Owned>>* uses_;
};

struct Terms {
  std::vector<train::LossTerm> terms;
  /** Handles of other roles that the terms refer to. */
  std::vector<std::shared_ptr<Owned>> uses;
};

/** Loss terms of a backward, tagged by kind. Throws ValueError naming the invalid field. */
Terms terms_of(const Napi::Value& value);

}  // namespace posttrain::bindings
