// Functions for tests only, in `exports.testHooks` of a library that is never packed.
#include <ATen/ATen.h>
#include <napi.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "bindings/engine.h"
#include "bindings/handle.h"
#include "bindings/module.h"
#include "core/allocator.h"
#include "core/cpu_cores.h"
#include "core/error.h"
#include "core/few_tokens.h"
#include "core/philox.h"
#include "device/kernels.h"
#include "test_hooks/kernel_cases.h"
#include "test_hooks/launches.h"
#include "test_hooks/optim.h"

namespace posttrain::bindings {
namespace {

using Clock = std::chrono::steady_clock;
constexpr const char* kTest = "test";

std::atomic<int64_t> live_objects{0};
std::atomic<int64_t> freed_elsewhere{0};
std::atomic<std::thread::id> torch_thread{};

/** Content of a test handle: counts itself and records the thread that destroys it. */
struct TestObject : Owned {
  explicit TestObject(int64_t bytes) : tensor(at::empty({bytes}, at::kByte)) {
    torch_thread = std::this_thread::get_id();
    ++live_objects;
  }
  ~TestObject() override {
    if (std::this_thread::get_id() != torch_thread.load()) ++freed_elsewhere;
    --live_objects;
  }
  at::Tensor tensor;
};

Reply nothing() {
  return [](Napi::Env env) { return env.Undefined(); };
}

double number(const Napi::Value& value) {
  return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : 0;
}

Clock::time_point after(double milliseconds) {
  return Clock::now() + std::chrono::microseconds(static_cast<int64_t>(milliseconds * 1000));
}

/** Sleeps; checks its flag every millisecond. */
Work sleep_for(double milliseconds) {
  return [=](const core::Cancel& cancel) {
    for (const auto end = after(milliseconds); Clock::now() < end;) {
      cancel.check();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return nothing();
  };
}

// sleepJob(ms, cancel?)
Napi::Value sleep_job(const Napi::CallbackInfo& info) {
  return submit(info.Env(), {}, cancel_of(info[1]), sleep_for(number(info[0])));
}

// busyJob(ms, cancel?): inside torch's operators throughout
Napi::Value busy_job(const Napi::CallbackInfo& info) {
  const double milliseconds = number(info[0]);
  return submit(info.Env(), {}, cancel_of(info[1]), [=](const core::Cancel& cancel) {
    const auto matrix = at::ones({256, 256});
    for (const auto end = after(milliseconds); Clock::now() < end;) {
      cancel.check();
      at::mm(matrix, matrix);
    }
    return nothing();
  });
}

// stuckJob(ms): inside torch's operators, never checks its flag
Napi::Value stuck_job(const Napi::CallbackInfo& info) {
  const double milliseconds = number(info[0]);
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) {
    const auto matrix = at::ones({256, 256});
    for (const auto end = after(milliseconds); Clock::now() < end;) at::mm(matrix, matrix);
    return nothing();
  });
}

// createObject(bytes): a handle
Napi::Value create_object(const Napi::CallbackInfo& info) {
  const auto bytes = static_cast<int64_t>(number(info[0]));
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) -> Reply {
    return [object = std::make_shared<TestObject>(bytes)](Napi::Env env) {
      return wrap(env, kTest, object);
    };
  });
}

// useObject(handle, ms, cancel?): a sleep that needs the handle
Napi::Value use_object(const Napi::CallbackInfo& info) {
  const auto object = unwrap_as<TestObject>(info[0], kTest);
  return submit(info.Env(), {object}, cancel_of(info[2]),
                [object, work = sleep_for(number(info[1]))](const core::Cancel& cancel) {
                  TORCH_CHECK(object->tensor.defined(), "the tensor is gone");
                  return work(cancel);
                });
}

// objects(): { live, freedElsewhere }; waits for the queue
Napi::Value objects(const Napi::CallbackInfo& info) {
  return submit(info.Env(), {}, nullptr, [](const core::Cancel&) -> Reply {
    return [live = live_objects.load(), elsewhere = freed_elsewhere.load(),
            kept = core::kept_bytes()](Napi::Env env) -> Napi::Value {
      auto result = Napi::Object::New(env);
      result.Set("live", static_cast<double>(live));
      result.Set("freedElsewhere", static_cast<double>(elsewhere));
      result.Set("keptBytes", static_cast<double>(kept));
      return result;
    };
  });
}

[[noreturn]] void throw_one(const std::string& kind) {
  if (kind == "Cancelled") throw core::Cancelled();
  if (kind == "core::Error") throw core::Error(core::ErrorCode::invalid_file, "a broken file");
  if (kind == "c10::Error") TORCH_CHECK(false, "a check of torch");
  if (kind == "c10::ValueError") TORCH_CHECK_VALUE(false, "[test] x must be > 0, got ", -1);
  if (kind == "c10::IndexError") TORCH_CHECK_INDEX(false, "an index");
  if (kind == "c10::TypeError") TORCH_CHECK_TYPE(false, "a type");
  if (kind == "c10::NotImplementedError") TORCH_CHECK_NOT_IMPLEMENTED(false, "not implemented");
  if (kind == "c10::LinAlgError") TORCH_CHECK_LINALG(false, "singular");
  if (kind == "c10::OutOfMemoryError")
    TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory");
  if (kind == "torch's allocator")
    TORCH_CHECK(false, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes");
  if (kind == "cuBLAS")
    TORCH_CHECK(false,
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`");
  if (kind == "a lost device")
    TORCH_CHECK(false, "CUDA error: an illegal memory access was encountered\nCUDA kernel errors");
  if (kind == "an operator") at::mm(at::ones({2, 3}), at::ones({2, 3}));
  if (kind == "std::bad_alloc") throw std::bad_alloc();
  if (kind == "std::length_error") throw std::length_error("too long");
  if (kind == "std::system_error")
    throw std::system_error(std::make_error_code(std::errc::io_error));
  if (kind == "std::runtime_error") throw std::runtime_error("a plain exception");
  if (kind == "int") throw 1;
  throw core::Error(core::ErrorCode::invalid_argument, "no such kind: " + kind);
}

// throwing(where, kind): in the function itself, in the job, in the reply, or in a function without
// a Promise
Napi::Value throwing(const Napi::CallbackInfo& info) {
  const auto where = info[0].ToString().Utf8Value(), kind = info[1].ToString().Utf8Value();
  if (where == "call") throw_one(kind);
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) -> Reply {
    if (where == "job") throw_one(kind);
    return [kind](Napi::Env) -> Napi::Value { throw_one(kind); };
  });
}

Napi::Value throwing_synchronously(const Napi::CallbackInfo& info) {
  throw_one(info[0].ToString().Utf8Value());
}

// failAllocation(after): makes the allocation after that many more fail; -1: none. Synchronous.
Napi::Value fail_allocation(const Napi::CallbackInfo& info) {
  core::fail_allocation_after(static_cast<int64_t>(number(info[0])));
  return info.Env().Undefined();
}

// poison(on): new blocks hold NaN. Synchronous.
Napi::Value poison(const Napi::CallbackInfo& info) {
  core::poison_allocations(info[0].ToBoolean());
  return info.Env().Undefined();
}

// allocate(bytes, times): tensors of that many bytes, one after another, each written to
Napi::Value allocate(const Napi::CallbackInfo& info) {
  const auto bytes = static_cast<int64_t>(number(info[0])),
             times = static_cast<int64_t>(number(info[1]));
  return submit(info.Env(), {}, nullptr, [=](const core::Cancel&) {
    for (int64_t i = 0; i < times; ++i) at::ones({bytes}, at::kByte);
    return nothing();
  });
}

// philox(counter, key): four numbers
Napi::Value philox(const Napi::CallbackInfo& info) {
  const auto counter = info[0].As<Napi::Uint32Array>(), key = info[1].As<Napi::Uint32Array>();
  const auto bits =
      core::philox4x32({counter[0], counter[1], counter[2], counter[3]}, {key[0], key[1]});
  auto result = Napi::Uint32Array::New(info.Env(), 4);
  for (size_t i = 0; i < 4; ++i) result[i] = bits[i];
  return result;
}

// normals(count, seed, index)
Napi::Value normals(const Napi::CallbackInfo& info) {
  const auto count = static_cast<int64_t>(number(info[0]));
  auto result = Napi::Float32Array::New(info.Env(), static_cast<size_t>(count));
  core::fill_normal(result.Data(), count, static_cast<uint64_t>(number(info[1])),
                    static_cast<uint32_t>(number(info[2])));
  return result;
}

// dropout(kernels, count, p, seed, stream)
Napi::Value dropout(const Napi::CallbackInfo& info) {
  const auto kernels = info[0].ToString().Utf8Value() == "cuda"
                           ? device::cuda_kernels(at::kFloat, 8)
                           : device::reference_kernels();
  const auto count = static_cast<int64_t>(number(info[1]));
  const auto mask = kernels.dropout(at::empty({count}), at::kFloat, number(info[2]),
                                    static_cast<uint64_t>(number(info[3])),
                                    static_cast<uint32_t>(number(info[4])));
  auto result = Napi::Float32Array::New(info.Env(), static_cast<size_t>(count));
  std::copy_n(mask.const_data_ptr<float>(), count, result.Data());
  return result;
}

// multiplyFew(way, w, x, columns): x w^T by one of the ways that this processor has
Napi::Value multiply_few(const Napi::CallbackInfo& info) {
  const auto& ways = core::ways_to_multiply_few();
  const auto way = static_cast<size_t>(number(info[0]));
  if (way >= ways.size()) return info.Env().Null();
  const auto w = info[1].As<Napi::Float32Array>(), x = info[2].As<Napi::Float32Array>();
  const auto columns = static_cast<int64_t>(number(info[3]));
  const auto rows = static_cast<int64_t>(w.ElementLength()) / columns,
             tokens = static_cast<int64_t>(x.ElementLength()) / columns;
  auto result = Napi::Float32Array::New(info.Env(), static_cast<size_t>(tokens * rows));
  ways[way](w.Data(), columns, rows, columns, x.Data(), tokens, result.Data(), rows);
  return result;
}

Napi::Value default_threads(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(core::default_threads()));
}

}  // namespace

void register_test_hooks(Napi::Env env, Napi::Object exports) {
  auto hooks = Napi::Object::New(env);
  hooks.Set("sleepJob", method(env, sleep_job));
  hooks.Set("busyJob", method(env, busy_job));
  hooks.Set("stuckJob", method(env, stuck_job));
  hooks.Set("createObject", method(env, create_object));
  hooks.Set("useObject", method(env, use_object));
  hooks.Set("objects", method(env, objects));
  hooks.Set("throwing", method(env, throwing));
  hooks.Set("throwingSynchronously", synchronous_method(env, throwing_synchronously));
  hooks.Set("failAllocation", synchronous_method(env, fail_allocation));
  hooks.Set("poison", synchronous_method(env, poison));
  if (std::getenv("POSTTRAIN_TEST_POISON") != nullptr) core::poison_allocations(true);
  hooks.Set("allocate", method(env, allocate));
  hooks.Set("philox", synchronous_method(env, philox));
  hooks.Set("dropout", synchronous_method(env, dropout));
  hooks.Set("normals", synchronous_method(env, normals));
  hooks.Set("multiplyFew", synchronous_method(env, multiply_few));
  hooks.Set("defaultThreads", synchronous_method(env, default_threads));
  add_launch_hooks(env, hooks);
  add_kernel_hooks(env, hooks);
  add_optim_hooks(env, hooks);
  exports.Set("testHooks", hooks);
}

}  // namespace posttrain::bindings
