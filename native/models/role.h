#pragma once
#include <memory>

#include "models/decoder.h"

namespace posttrain::models {

/** What is trained, evaluated and sampled from: a base and, with later work, an adapter and a
 * scalar head of its own. */
struct Role {
  std::shared_ptr<Decoder> base;
};

}  // namespace posttrain::models
