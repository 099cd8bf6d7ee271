#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>

#if defined(__linux__)
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "bindings/engine.h"
#include "bindings/module.h"
#include "core/error.h"

namespace posttrain::bindings {
namespace {

/** Exchanges two paths in one step: 0, or the errno. ENOSYS where the system has no such call. */
int exchange(const std::string& a, const std::string& b) {
#if defined(__linux__) && defined(SYS_renameat2)
  constexpr unsigned kExchange = 1 << 1;  // RENAME_EXCHANGE of linux/fs.h
  return ::syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), kExchange) == 0 ? 0
                                                                                            : errno;
#elif defined(__APPLE__)
  return ::renamex_np(a.c_str(), b.c_str(), RENAME_SWAP) == 0 ? 0 : errno;
#else
  return ENOSYS;
#endif
}

/** Whether the file system cannot exchange two paths at all (EPERM: a sandbox forbids the call). */
bool is_unsupported(int error) {
  return error == ENOSYS || error == EINVAL || error == ENOTSUP || error == EXDEV || error == EPERM;
}

// exchangePaths(a, b): true, or false where the file system has no exchange
Napi::Value exchange_paths(const Napi::CallbackInfo& info) {
  const auto a = info[0].ToString().Utf8Value(), b = info[1].ToString().Utf8Value();
  return submit(info.Env(), {}, nullptr, [a, b](const core::Cancel&) -> Reply {
    const int error = exchange(a, b);
    if (error != 0 && !is_unsupported(error))
      throw core::Error(core::ErrorCode::io, "exchanging " + a + " and " + b + " failed: " +
                                                 std::generic_category().message(error));
    return [done = error == 0](Napi::Env env) { return Napi::Boolean::New(env, done); };
  });
}

}  // namespace

void register_files(Napi::Env env, Napi::Object exports) {
  exports.Set("exchangePaths", method(env, exchange_paths));
}

}  // namespace posttrain::bindings
