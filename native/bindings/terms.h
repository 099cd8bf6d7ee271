#pragma once
#include <napi.h>

#include <memory>
#include <vector>

#include "bindings/engine.h"
#include "train/terms.h"

namespace posttrain::bindings {

struct Terms {
  std::vector<train::LossTerm> terms;
  /** Handles that the terms name: other roles. */
  std::vector<std::shared_ptr<Owned>> uses;
};

/** The list of tagged loss terms of a backward. Throws ValueError naming what is wrong. */
Terms terms_of(const Napi::Value& value);

losses::DpoOptions dpo_options_of(const Napi::Object& object);
losses::PpoPolicyOptions policy_options_of(const Napi::Object& object);

}  // namespace posttrain::bindings
