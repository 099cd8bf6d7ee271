#include "bindings/engine.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "bindings/errors.h"
#include "bindings/handle.h"
#include "core/allocator.h"
#include "core/cuda_devices.h"
#include "core/error.h"

extern "C" uint64_t aoti_torch_abi_version();

namespace posttrain::bindings {
namespace {

/** One JavaScript environment, main or worker. */
struct Client {
  napi_threadsafe_function settle = nullptr;
  // Guards `alive` against the end of the environment: afterwards nothing of Node-API may be touched.
  std::mutex mutex;
  bool alive = true;
  size_t pending = 0;  // JavaScript thread only
};

struct Job {
  std::shared_ptr<Client> client;  // null: a release that nobody awaits
  napi_deferred deferred = nullptr;
  std::vector<std::shared_ptr<Owned>> uses;
  std::shared_ptr<core::Cancel> cancel;
  std::atomic<bool> disposed{false};
  Work work;
  Reply reply;
  std::optional<Failure> failure;
};

class Engine {
 public:
  // Never destroyed: at exit its thread may still sleep in it.
  static Engine& instance() {
    static auto* engine = new Engine();
    return *engine;
  }

  void post(std::shared_ptr<Job> job) {
    {
      const std::lock_guard lock(mutex_);
      if (ended_) {
        // Only the exit of the process gets here; its memory goes with it.
        if (job->client != nullptr) throw core::Error("ERR_DISPOSED", "the process is exiting: no further work is accepted");
        new std::shared_ptr<Job>(std::move(job));
        return;
      }
      if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
      queue_.push_back(std::move(job));
    }
    wake_.notify_all();
  }

  template <class Predicate>
  void cancel_if(Predicate predicate) {
    const std::lock_guard lock(mutex_);
    for (const auto& job : queue_) {
      if (predicate(*job)) job->cancel->raise();
    }
    if (running_ != nullptr && predicate(*running_)) running_->cancel->raise();
  }

  /** Waits until no job of that client runs. */
  void await_client(const Client* client) {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [&] { return running_ == nullptr || running_->client.get() != client; });
  }

  bool shutdown(int64_t timeout_ms) {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
      for (const auto& job : queue_) job->cancel->raise();
      if (running_ != nullptr) running_->cancel->raise();
      if (!thread_.joinable()) return true;
    }
    wake_.notify_all();
    std::unique_lock lock(mutex_);
    if (!idle_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return finished_; })) return false;
    lock.unlock();
    thread_.join();
    return true;
  }

  /** Threads of torch, once per process. */
  void configure(int64_t threads) {
    const std::lock_guard lock(mutex_);
    TORCH_CHECK_VALUE(threads >= 1 && threads <= 4096, "[configure] threads must be between 1 and 4096, got ", threads);
    TORCH_CHECK_VALUE(threads_ == 0 || threads_ == threads, "[configure] threads is already ", threads_,
                      " in this process and cannot become ", threads);
    threads_ = threads;
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return ended_ || !queue_.empty(); });
      if (ended_) break;
      auto job = std::move(queue_.front());
      queue_.pop_front();
      running_ = job;
      lock.unlock();
      execute(*job);
      lock.lock();
      running_ = nullptr;
      idle_.notify_all();
      lock.unlock();
      settle(std::move(job));
      lock.lock();
    }
    finished_ = true;
    idle_.notify_all();
  }

  static void execute(Job& job) {
    try {
      job.cancel->check();
      job.reply = job.work(*job.cancel);
    } catch (...) {
      job.failure = failure_of(std::current_exception());
      if (job.failure->code == "ABORT_ERR" && job.disposed) {
        job.failure = Failure{"ERR_DISPOSED", "the model, optimizer or session was disposed while the call was under way"};
      }
    }
    job.work = nullptr;
    job.uses.clear();
  }

  static void settle(std::shared_ptr<Job> job) {
    if (job->client == nullptr) return;
    const auto client = job->client;
    const std::lock_guard lock(client->mutex);
    if (!client->alive) return;
    napi_call_threadsafe_function(client->settle, new std::shared_ptr<Job>(std::move(job)), napi_tsfn_nonblocking);
  }

  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<std::shared_ptr<Job>> queue_;
  std::shared_ptr<Job> running_;
  std::thread thread_;
  int64_t threads_ = 0;
  bool ended_ = false;
  bool finished_ = false;
};

// Clients by environment; touched on the threads of their environments.
std::mutex clients_mutex;
std::unordered_map<napi_env, std::shared_ptr<Client>> clients;

std::shared_ptr<Client> client_of(napi_env env) {
  const std::lock_guard lock(clients_mutex);
  const auto found = clients.find(env);
  TORCH_CHECK(found != clients.end(), "[engine] this environment has ended");
  return found->second;
}

void settle_on_javascript(napi_env env_value, napi_value, void*, void* data) {
  const std::unique_ptr<std::shared_ptr<Job>> holder(static_cast<std::shared_ptr<Job>*>(data));
  if (env_value == nullptr) return;  // the environment is ending
  const Napi::Env env(env_value);
  const Napi::HandleScope scope(env);
  auto& job = **holder;
  auto failure = job.failure;
  napi_value value = nullptr;
  if (!failure.has_value()) {
    try {
      value = job.reply(env);
    } catch (...) {
      failure = failure_of(std::current_exception());
    }
  }
  if (failure.has_value()) {
    napi_reject_deferred(env, job.deferred, error_of(env, *failure));
  } else {
    napi_resolve_deferred(env, job.deferred, value);
  }
  if (--job.client->pending == 0) napi_unref_threadsafe_function(env, job.client->settle);
  static int64_t told = 0;
  const int64_t now = core::allocated_bytes();
  int64_t total;
  // V8 collects handles sooner when it knows what they hold; one environment tells for all.
  if (std::abs(now - told) > (int64_t{16} << 20)) {
    napi_adjust_external_memory(env, now - told, &total);
    told = now;
  }
}

void end_client(void* data) {
  const auto env = static_cast<napi_env>(data);
  const auto client = client_of(env);
  {
    const std::lock_guard lock(client->mutex);
    client->alive = false;
  }
  auto& engine = Engine::instance();
  engine.cancel_if([&](const Job& job) { return job.client == client; });
  engine.await_client(client.get());
  const std::lock_guard lock(clients_mutex);
  clients.erase(env);
}

Napi::Value configure(const Napi::CallbackInfo& info) {
  const auto threads = info[0].IsObject() ? info[0].As<Napi::Object>().Get("threads") : info.Env().Undefined();
  int64_t count = 0;
  if (!threads.IsUndefined()) {
    TORCH_CHECK_VALUE(threads.IsNumber(), "[configure] threads must be a number");
    count = threads.As<Napi::Number>().Int64Value();
    Engine::instance().configure(count);
  }
  return submit(info.Env(), {}, nullptr, [count](const core::Cancel&) {
    if (count > 0) at::set_num_threads(static_cast<int>(count));
    return [](Napi::Env env) -> Napi::Value { return env.Undefined(); };
  });
}

Napi::Value engine_info(const Napi::CallbackInfo& info) {
  return submit(info.Env(), {}, nullptr, [](const core::Cancel&) -> Reply {
    const uint64_t version = aoti_torch_abi_version();
    const auto text = std::to_string(version >> 56) + "." + std::to_string((version >> 48) & 0xff) + "." +
                      std::to_string((version >> 40) & 0xff);
    return [text, threads = at::get_num_threads(), cuda = at::hasCUDA(), devices = core::cuda_devices()](
               Napi::Env env) -> Napi::Value {
      auto result = Napi::Object::New(env);
      result.Set("libtorch", text);
      result.Set("threads", threads);
      auto list = Napi::Array::New(env);
      for (uint32_t i = 0; cuda && i < devices.size(); ++i) {
        auto device = Napi::Object::New(env);
        device.Set("name", devices[i].name);
        device.Set("totalBytes", static_cast<double>(devices[i].total_bytes));
        list.Set(i, device);
      }
      auto object = Napi::Object::New(env);
      object.Set("opened", cuda);
      object.Set("devices", list);
      result.Set("cuda", object);
      result.Set("allocatedBytes", static_cast<double>(core::allocated_bytes()));
      result.Set("liveHandles", static_cast<double>(live_handles()));
      return result;
    };
  });
}

Napi::Value shutdown(const Napi::CallbackInfo& info) {
  const int64_t timeout_ms = info[0].IsNumber() ? info[0].As<Napi::Number>().Int64Value() : 2000;
  return Napi::Boolean::New(info.Env(), Engine::instance().shutdown(timeout_ms));
}

Napi::Value exit_now(const Napi::CallbackInfo& info) {
  _exit(info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : 1);
}

Napi::Value rejected(Napi::Env env, const Failure& failure) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  deferred.Reject(error_of(env, failure));
  return deferred.Promise();
}

}  // namespace

Napi::Value submit(Napi::Env env, std::vector<std::shared_ptr<Owned>> uses, std::shared_ptr<core::Cancel> cancel,
                   Work work) {
  const auto client = client_of(env);
  auto job = std::make_shared<Job>();
  job->client = client;
  job->uses = std::move(uses);
  job->cancel = std::make_shared<core::Cancel>(std::move(cancel));
  job->work = std::move(work);
  napi_value promise;
  NAPI_THROW_IF_FAILED(env, napi_create_promise(env, &job->deferred, &promise), Napi::Value());
  try {
    Engine::instance().post(job);
  } catch (...) {
    napi_reject_deferred(env, job->deferred, error_of(env, failure_of(std::current_exception())));
    return Napi::Value(env, promise);
  }
  if (client->pending++ == 0) napi_ref_threadsafe_function(env, client->settle);
  return Napi::Value(env, promise);
}

void release_later(std::shared_ptr<Owned> object) {
  auto job = std::make_shared<Job>();
  job->cancel = std::make_shared<core::Cancel>();
  job->work = [object = std::move(object)](const core::Cancel&) mutable -> Reply {
    object.reset();
    return nullptr;
  };
  Engine::instance().post(std::move(job));
}

void cancel_users(const std::shared_ptr<Owned>& object) {
  Engine::instance().cancel_if([&](const Job& job) {
    for (const auto& used : job.uses) {
      if (used == object) {
        const_cast<Job&>(job).disposed = true;
        return true;
      }
    }
    return false;
  });
}

Napi::Function method(Napi::Env env, Napi::Value (*body)(const Napi::CallbackInfo&)) {
  return Napi::Function::New(env, [body](const Napi::CallbackInfo& info) -> Napi::Value {
    try {
      return body(info);
    } catch (const Napi::Error&) {
      throw;
    } catch (...) {
      return rejected(info.Env(), failure_of(std::current_exception()));
    }
  });
}

void register_engine(Napi::Env env, Napi::Object exports) {
  const auto client = std::make_shared<Client>();
  NAPI_THROW_IF_FAILED_VOID(
      env, napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "posttrain"), 0, 1, nullptr,
                                           nullptr, nullptr, settle_on_javascript, &client->settle));
  napi_unref_threadsafe_function(env, client->settle);
  {
    const std::lock_guard lock(clients_mutex);
    clients[env] = client;
  }
  // Added after the function's own hook, so it runs before that: jobs end while their client can still be found.
  napi_add_env_cleanup_hook(env, end_client, static_cast<napi_env>(env));
  exports.Set("configure", method(env, configure));
  exports.Set("info", method(env, engine_info));
  exports.Set("shutdown", Napi::Function::New(env, shutdown));
  exports.Set("exitNow", Napi::Function::New(env, exit_now));
}

}  // namespace posttrain::bindings
