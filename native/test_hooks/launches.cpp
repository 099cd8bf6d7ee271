// Counts what a device would be asked to do: an operation that is neither a view nor an allocation
// is a launch, as is one that CUDA alone has, whatever its stand-in computes by, and a kernel of
// ours.
#include "test_hooks/launches.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>

#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "bindings/convert.h"
#include "bindings/engine.h"
#include "core/cuda_kernels.h"
#include "core/transfer.h"

namespace posttrain::bindings {
namespace {

enum class Kind {
  /** Made of others, or of none. */
  composite,
  launch,
  /** One launch on CUDA, whatever it is made of here. */
  one_launch,
  /** CUDA computes how much there is and tells the host. */
  waits,
};

std::mutex mutex;
std::map<std::string, int64_t> launches;  // by operation
int64_t waits = 0, own_kernels = 0;
std::optional<at::CallbackHandle> observer;

Kind kind_of(const std::string& name, const std::optional<c10::OperatorName>& op) {
  if (!op.has_value()) return Kind::composite;
  for (const char* one : {"aten::_flash_attention", "aten::_efficient_attention", "aten::_foreach_",
                          "aten::_fused_", "aten::embedding_dense_backward"})
    if (name.starts_with(one)) return Kind::one_launch;
  if (op->overload_name == "dtype_out") return Kind::one_launch;
  for (const char* counting : {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal",
                               "aten::masked_select", "aten::_unique2"})
    if (name == counting) return Kind::waits;
  for (const char* allocation : {"aten::empty", "aten::new_empty", "aten::resize_", "aten::set_",
                                 "aten::_unsafe_view", "aten::result_type"})
    if (name.starts_with(allocation)) return Kind::composite;
  const auto handle = c10::Dispatcher::singleton().findSchema(*op);
  if (!handle.has_value()) return Kind::composite;
  if (handle->hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd))
    return Kind::composite;
  for (const auto& result : handle->schema().returns())
    if (const auto* alias = result.alias_info(); alias != nullptr && !alias->isWrite())
      return Kind::composite;
  return Kind::launch;
}

/** Operations that run, the outermost first: whether each launched something of its own. */
struct Running {
  Kind kind;
  bool launched = false;
};
thread_local std::vector<Running> running;
thread_local int inside_one = 0;

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
  const auto kind = kind_of(function.name(), function.operator_name());
  running.push_back({kind});
  if (kind == Kind::one_launch) ++inside_one;
  return nullptr;
}

void end(const at::RecordFunction& function, at::ObserverContext*) {
  if (running.empty()) return;
  auto [kind, launched] = running.back();
  running.pop_back();
  if (kind == Kind::one_launch) --inside_one;
  if (inside_one > 0) return;
  const std::lock_guard lock(mutex);
  if (kind == Kind::waits) ++waits;
  if (kind == Kind::one_launch || (kind == Kind::launch && !launched)) {
    ++launches[function.name()];
    launched = true;
  }
  if (launched && !running.empty()) running.back().launched = true;
}

// countLaunches(): starts, or starts anew
Napi::Value count_launches(const Napi::CallbackInfo& info) {
  const std::lock_guard lock(mutex);
  if (!observer.has_value())
    observer = at::addGlobalCallback(
        at::RecordFunctionCallback(begin, end).scopes({at::RecordScope::FUNCTION}));
  launches.clear();
  waits = -core::transfers().waits;
  own_kernels = -core::kernel_launches();
  return info.Env().Undefined();
}

// launches(): { operations: launches by operation, waits }
Napi::Value counted(const Napi::CallbackInfo& info) {
  const std::lock_guard lock(mutex);
  auto operations = Napi::Object::New(info.Env());
  for (const auto& [name, count] : launches) operations.Set(name, static_cast<double>(count));
  operations.Set("own kernels", static_cast<double>(own_kernels + core::kernel_launches()));
  auto result = Napi::Object::New(info.Env());
  result.Set("operations", operations);
  result.Set("waits", static_cast<double>(waits + core::transfers().waits));
  return result;
}

}  // namespace

void add_launch_hooks(Napi::Env env, Napi::Object hooks) {
  hooks.Set("countLaunches", synchronous_method(env, count_launches));
  hooks.Set("launches", synchronous_method(env, counted));
}

}  // namespace posttrain::bindings
