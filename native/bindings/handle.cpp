#include "bindings/handle.h"

#include <c10/util/Exception.h>

#include <atomic>
#include <cstring>
#include <utility>

#include "bindings/engine.h"
#include "core/allocator.h"
#include "core/cuda_devices.h"
#include "core/error.h"

namespace posttrain::bindings {
namespace {

// Marks the Externals of this library among all others.
constexpr napi_type_tag kTag = {0x706f737474726169ULL, 0x6e2d68616e646c65ULL};
constexpr const char* kCancel = "cancel";

std::atomic<int64_t> live{0};

struct Box {
  const char* kind;
  std::shared_ptr<Owned> object;  // null after dispose()
};

struct OwnedCancel : Owned {
  std::shared_ptr<core::Cancel> cancel = std::make_shared<core::Cancel>();
};

Box* box_of(const Napi::Value& value) {
  bool tagged = false;
  if (!value.IsExternal() ||
      napi_check_object_type_tag(value.Env(), value, &kTag, &tagged) != napi_ok || !tagged) {
    return nullptr;
  }
  return value.As<Napi::External<Box>>().Data();
}

Napi::Value create_cancel(const Napi::CallbackInfo& info) {
  return wrap(info.Env(), kCancel, std::make_shared<OwnedCancel>());
}

Napi::Value raise_cancel(const Napi::CallbackInfo& info) {
  const auto cancel = cancel_of(info[0]);
  TORCH_CHECK_VALUE(cancel != nullptr, "[cancel] the argument is not a cancel handle");
  raise(*cancel);
  return info.Env().Undefined();
}

Napi::Value dispose(const Napi::CallbackInfo& info) {
  auto* box = box_of(info[0]);
  TORCH_CHECK_VALUE(box != nullptr && box->kind != kCancel,
                    "[dispose] the argument is not a handle of this library");
  auto object = std::exchange(box->object, nullptr);
  if (object != nullptr) {
    --live;
    cancel_users(object);
  }
  // The last reference dies on the torch thread, after every job that uses it.
  // The next session needs what this one frees; returning it to a device waits for the device.
  const bool keep = std::strcmp(box->kind, kSession) == 0;
  return submit(info.Env(), {}, nullptr,
                [object = std::move(object), keep](const core::Cancel&) mutable {
                  object.reset();
                  core::release_kept_memory();
                  if (!keep) core::release_cuda_memory();
                  return [](Napi::Env env) -> Napi::Value { return env.Undefined(); };
                });
}

}  // namespace

Napi::Value wrap(Napi::Env env, const char* kind, std::shared_ptr<Owned> object) {
  // A cancel flag holds almost no native memory: it is not counted and may be freed on any
  // thread.
  const bool counted = kind != kCancel;
  if (counted) ++live;
  auto external = Napi::External<Box>::New(env, new Box{kind, std::move(object)},
                                           [counted](Napi::Env, Box* box) {
                                             if (counted && box->object != nullptr) {
                                               --live;
                                               release_later(std::move(box->object));
                                             }
                                             delete box;
                                           });
  NAPI_THROW_IF_FAILED(env, napi_type_tag_object(env, external, &kTag), Napi::Value());
  return external;
}

std::shared_ptr<Owned> unwrap(const Napi::Value& value, const char* kind) {
  const auto* box = box_of(value);
  TORCH_CHECK_VALUE(box != nullptr && std::strcmp(box->kind, kind) == 0,
                    "[boundary] the argument is not a ", kind, " handle");
  if (box->object == nullptr)
    throw core::Error(core::ErrorCode::disposed, std::string("the ") + kind + " was disposed");
  return box->object;
}

std::shared_ptr<core::Cancel> cancel_of(const Napi::Value& value) {
  if (value.IsUndefined() || value.IsNull()) return nullptr;
  return unwrap_as<OwnedCancel>(value, kCancel)->cancel;
}

int64_t live_handles() { return live; }

void register_handles(Napi::Env env, Napi::Object exports) {
  exports.Set("createCancel", synchronous_method(env, create_cancel));
  exports.Set("cancel", synchronous_method(env, raise_cancel));
  exports.Set("dispose", method(env, dispose));
}

}  // namespace posttrain::bindings
