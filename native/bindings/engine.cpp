#include "bindings/engine.h"

#include <c10/util/Exception.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <mutex>
#include <unordered_map>

#include "bindings/errors.h"
#include "bindings/torch_thread.h"
#include "core/allocator.h"
#include "core/cuda_devices.h"

namespace posttrain::bindings {

/** One JavaScript environment, main or worker. */
struct Client {
  napi_threadsafe_function settle = nullptr;
  // Guards `alive` against the end of the environment: afterwards no Node-API call is
  // allowed (some versions of Node abort when a worker exits with a call to its thread-safe
  // function in flight).
  std::mutex mutex;
  bool alive = true;
  // JavaScript thread only.
  size_t pending = 0;
  int64_t told_bytes = 0;
};

namespace {

// Clients by environment; touched on the threads of their environments.
std::mutex clients_mutex;
std::unordered_map<napi_env, std::shared_ptr<Client>> clients;

std::shared_ptr<Client> find_client(napi_env env) {
  const std::lock_guard lock(clients_mutex);
  const auto found = clients.find(env);
  return found == clients.end() ? nullptr : found->second;
}

/** Reports native memory to V8, which then collects handles sooner. */
void tell_memory(napi_env env, Client& client, int64_t device_bytes) {
  const int64_t now = core::allocated_bytes() + device_bytes;
  if (std::abs(now - client.told_bytes) <= int64_t{16} << 20) return;
  int64_t total = 0;
  napi_adjust_external_memory(env, now - client.told_bytes, &total);
  client.told_bytes = now;
}

// Plain Node-API, and no exception escapes: it also runs while a worker is being terminated, when
// every call fails.
void settle_on_javascript(napi_env env, napi_value, void*, void* data) {
  const std::unique_ptr<std::shared_ptr<Job>> holder(static_cast<std::shared_ptr<Job>*>(data));
  if (env == nullptr) return;  // the environment is ending
  auto& job = **holder;
  auto& client = *job.client;
  if (--client.pending == 0) napi_unref_threadsafe_function(env, client.settle);
  napi_handle_scope scope = nullptr;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  auto failure = job.failure;
  napi_value value = nullptr;
  if (!failure.has_value()) {
    try {
      value = job.reply(Napi::Env(env));
    } catch (...) {
      failure = failure_of(std::current_exception());
    }
  }
  job.reply = nullptr;
  if (failure.has_value()) {
    napi_reject_deferred(env, job.deferred, error_of(env, *failure));
  } else {
    napi_resolve_deferred(env, job.deferred, value);
  }
  tell_memory(env, client, job.device_bytes);
  napi_close_handle_scope(env, scope);
}

void end_client(void* data) {
  const auto env = static_cast<napi_env>(data);
  const auto client = find_client(env);
  if (client == nullptr) return;
  {
    const std::lock_guard lock(client->mutex);
    client->alive = false;
  }
  auto& thread = TorchThread::instance();
  thread.cancel_if([&](Job& job) { return job.client == client; });
  thread.await_client(client.get());
  const std::lock_guard lock(clients_mutex);
  clients.erase(env);
}

Napi::Value configure(const Napi::CallbackInfo& info) {
  TORCH_CHECK_VALUE(info[0].IsObject(), "[configure] options must be an object");
  const auto options = info[0].As<Napi::Object>();
  const auto threads = options.Get("threads");
  if (!threads.IsUndefined()) {
    TORCH_CHECK_VALUE(threads.IsNumber(), "[configure] threads must be a number");
    const double count = threads.As<Napi::Number>().DoubleValue();
    TORCH_CHECK_VALUE(count == std::floor(count) && std::abs(count) < 1e9,
                      "[configure] threads must be a whole number, got ", count);
    TorchThread::instance().set_threads(static_cast<int64_t>(count));
  }
  const bool deterministic = options.Get("deterministic").ToBoolean();
  return submit(info.Env(), {}, nullptr, [deterministic](const core::Cancel&) {
    if (deterministic) core::set_deterministic();
    return [](Napi::Env env) -> Napi::Value { return env.Undefined(); };
  });
}

Napi::Value shutdown(const Napi::CallbackInfo& info) {
  const int64_t timeout_ms = info[0].IsNumber() ? info[0].As<Napi::Number>().Int64Value() : 2000;
  return Napi::Boolean::New(info.Env(), TorchThread::instance().shutdown(timeout_ms));
}

Napi::Value exit_now(const Napi::CallbackInfo& info) {
  _exit(info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : 1);
}

napi_value rejected(napi_env env, napi_value error) {
  napi_deferred deferred = nullptr;
  napi_value promise = nullptr;
  if (napi_create_promise(env, &deferred, &promise) != napi_ok) return nullptr;
  napi_reject_deferred(env, deferred, error);
  return promise;
}

}  // namespace

void settle(const std::shared_ptr<Job>& job) {
  if (job->client == nullptr) return;
  auto& client = *job->client;
  const std::lock_guard lock(client.mutex);
  if (!client.alive) return;
  auto holder = std::make_unique<std::shared_ptr<Job>>(job);
  if (napi_call_threadsafe_function(client.settle, holder.get(), napi_tsfn_nonblocking) ==
      napi_ok) {
    holder.release();
  } else {
    client.alive = false;
  }
}

Napi::Value submit(Napi::Env env, std::vector<std::shared_ptr<Owned>> uses,
                   std::shared_ptr<core::Cancel> cancel, Work work) {
  const auto client = find_client(env);
  TORCH_CHECK(client != nullptr, "[engine] this environment has ended");
  auto job = std::make_shared<Job>();
  job->client = client;
  job->uses = std::move(uses);
  job->cancel = std::make_shared<core::Cancel>(std::move(cancel));
  job->work = std::move(work);
  napi_value promise = nullptr;
  NAPI_THROW_IF_FAILED(env, napi_create_promise(env, &job->deferred, &promise), Napi::Value());
  if (client->pending++ == 0) napi_ref_threadsafe_function(env, client->settle);
  try {
    TorchThread::instance().post(job);
  } catch (...) {
    if (--client->pending == 0) napi_unref_threadsafe_function(env, client->settle);
    napi_reject_deferred(env, job->deferred, error_of(env, failure_of(std::current_exception())));
  }
  return Napi::Value(env, promise);
}

void release_later(std::shared_ptr<Owned> object) {
  auto job = std::make_shared<Job>();
  job->uses.push_back(std::move(object));
  job->work = [](const core::Cancel&) -> Reply { return nullptr; };
  try {
    TorchThread::instance().post(job);
  } catch (...) {
    // The process is exiting: its memory goes with it, and freeing here could race with a
    // running job.
    new std::shared_ptr<Job>(std::move(job));
  }
}

void cancel_users(const std::shared_ptr<Owned>& object) {
  TorchThread::instance().cancel_if([&](Job& job) {
    for (const auto& used : job.uses) {
      if (used == object && job.client != nullptr) {
        job.disposed = true;
        return true;
      }
    }
    return false;
  });
}

void raise(core::Cancel& cancel) {
  cancel.raise();
  TorchThread::instance().cancel_if([](Job& job) { return job.cancel->raised(); });
}

Napi::Function method(Napi::Env env, Napi::Value (*body)(const Napi::CallbackInfo&)) {
  return Napi::Function::New(env, [body](const Napi::CallbackInfo& info) -> Napi::Value {
    try {
      return body(info);
    } catch (const Napi::Error& error) {
      return Napi::Value(info.Env(), rejected(info.Env(), error.Value()));
    } catch (...) {
      return Napi::Value(
          info.Env(),
          rejected(info.Env(), error_of(info.Env(), failure_of(std::current_exception()))));
    }
  });
}

Napi::Function synchronous_method(Napi::Env env, Napi::Value (*body)(const Napi::CallbackInfo&)) {
  return Napi::Function::New(env, [body](const Napi::CallbackInfo& info) -> Napi::Value {
    try {
      return body(info);
    } catch (const Napi::Error&) {
      throw;
    } catch (...) {
      napi_throw(info.Env(), error_of(info.Env(), failure_of(std::current_exception())));
      return Napi::Value();
    }
  });
}

void register_engine(Napi::Env env, Napi::Object exports) {
  // Opened twice in one environment: the client already exists.
  if (find_client(env) == nullptr) {
    const auto client = std::make_shared<Client>();
    NAPI_THROW_IF_FAILED_VOID(
        env, napi_create_threadsafe_function(
                 env, nullptr, nullptr, Napi::String::New(env, "posttrain"), 0, 1, nullptr, nullptr,
                 nullptr, settle_on_javascript, &client->settle));
    napi_unref_threadsafe_function(env, client->settle);
    {
      const std::lock_guard lock(clients_mutex);
      clients[env] = client;
    }
    // Added after the function's own hook, so it runs earlier: jobs end while their client can
    // still be found.
    napi_add_env_cleanup_hook(env, end_client, static_cast<napi_env>(env));
  }
  exports.Set("configure", method(env, configure));
  exports.Set("shutdown", synchronous_method(env, shutdown));
  exports.Set("exitNow", synchronous_method(env, exit_now));
}

}  // namespace posttrain::bindings
