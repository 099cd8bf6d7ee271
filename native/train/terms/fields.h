#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace posttrain::models {
class Role;
}

namespace posttrain::train {

/**
 * Named options of one term or loss, from JavaScript; every array is a copy. Each
 * getter throws ValueError with the name if the type is wrong; numbers, booleans and strings
 * also if there is neither a value nor `absent`.
 */
class Fields {
 public:
  virtual ~Fields() = default;
  /** Neither undefined nor null. */
  virtual bool has(const char* name) const = 0;
  virtual double number(const char* name, std::optional<double> absent = std::nullopt) const = 0;
  virtual int64_t integer(const char* name, std::optional<int64_t> absent = std::nullopt) const = 0;
  virtual bool boolean(const char* name, std::optional<bool> absent = std::nullopt) const = 0;
  virtual std::string string(const char* name) const = 0;
  /** Arrays are empty without a value. */
  virtual std::vector<double> doubles(const char* name) const = 0;
  virtual std::vector<int32_t> int32s(const char* name) const = 0;
  virtual std::vector<uint8_t> bytes(const char* name) const = 0;
  virtual std::shared_ptr<models::Role> role(const char* name) const = 0;

  /** None without a value. */
  std::optional<double> number_or_none(const char* name) const {
    return has(name) ? std::optional(number(name)) : std::nullopt;
  }
};

}  // namespace posttrain::train
