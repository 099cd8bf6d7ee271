#pragma once
#include <cstdint>
#include <variant>

namespace posttrain::losses {

/** One term of a backward. Each kind says which head and which per-token vectors it needs. */
struct CrossEntropyTerm {
  double coefficient = 1;
  int64_t ignore_index = -100;
};

using LossTerm = std::variant<CrossEntropyTerm>;

}  // namespace posttrain::losses
