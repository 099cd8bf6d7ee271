#pragma once
#include <stdexcept>
#include <string>

namespace posttrain::core {

/** An error whose code reaches JavaScript as it is, such as ERR_INVALID_FILE. */
class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  const char* code() const noexcept { return code_; }

 private:
  const char* code_;
};

}  // namespace posttrain::core
