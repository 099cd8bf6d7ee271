#pragma once
#include <memory>

#include "bindings/handle.h"
#include "generate/session.h"
#include "models/role.h"
#include "optim/adamw.h"

namespace posttrain::bindings {

template <class T>
struct Holding : Owned {
  explicit Holding(std::shared_ptr<T> held) : object(std::move(held)) {}
  std::shared_ptr<T> object;
};

using OwnedBase = Holding<models::Decoder>;
using OwnedAdapter = Holding<models::Adapter>;
using OwnedRole = Holding<models::Role>;
using OwnedOptimizer = Holding<optim::AdamW>;
using OwnedSession = Holding<generate::Session>;

/** A reply that wraps a new object in a handle. */
template <class T>
Reply handle_reply(const char* kind, std::shared_ptr<T> object) {
  return [kind, owned = std::make_shared<Holding<T>>(std::move(object))](Napi::Env env) {
    return wrap(env, kind, owned);
  };
}

inline Reply undefined_reply() {
  return [](Napi::Env env) { return env.Undefined(); };
}

}  // namespace posttrain::bindings
