#include "loader/library.h"

#include <cstdio>

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace posttrain::loader {

#ifdef _WIN32

const LibraryNames kNames = {"c10.dll", "torch_cpu.dll", "torch_cuda.dll", "nvcuda.dll"};

namespace {

std::wstring wide(const std::string& text) {
  const int length =
      MultiByteToWideChar(CP_UTF8, 0, text.data(), static_cast<int>(text.size()), nullptr, 0);
  std::wstring result(length, L'\0');
  MultiByteToWideChar(CP_UTF8, 0, text.data(), static_cast<int>(text.size()), result.data(),
                      length);
  return result;
}

std::string last_path;
DWORD last_code = 0;

}  // namespace

void* open_library(const std::string& path) {
  // Dependencies are searched beside the library and in the system's folder, never in PATH.
  const DWORD flags = is_absolute(path)
                          ? LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_DEFAULT_DIRS
                          : LOAD_LIBRARY_SEARCH_SYSTEM32;
  HMODULE library = LoadLibraryExW(wide(path).c_str(), nullptr, flags);
  last_code = GetLastError();
  last_path = path;
  return reinterpret_cast<void*>(library);
}

std::string open_error() {
  wchar_t text[512];
  const DWORD length =
      FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, nullptr, last_code,
                     0, text, static_cast<DWORD>(std::size(text)), nullptr);
  std::string message = last_path + ": ";
  if (length == 0) return message + "Windows error " + std::to_string(last_code);
  const int bytes =
      WideCharToMultiByte(CP_UTF8, 0, text, static_cast<int>(length), nullptr, 0, nullptr, nullptr);
  std::string sentence(bytes, '\0');
  WideCharToMultiByte(CP_UTF8, 0, text, static_cast<int>(length), sentence.data(), bytes, nullptr,
                      nullptr);
  // The system ends its sentences with a full stop and a new line.
  while (!sentence.empty() && (sentence.back() == '\n' || sentence.back() == '\r' ||
                               sentence.back() == '.' || sentence.back() == ' '))
    sentence.pop_back();
  return message + sentence + " (Windows error " + std::to_string(last_code) + ")";
}

void* find_symbol(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(reinterpret_cast<HMODULE>(library), name));
}

bool is_absolute(const std::string& path) {
  const auto is_separator = [](char c) { return c == '\\' || c == '/'; };
  const bool drive = path.size() > 2 && path[1] == ':' && is_separator(path[2]);
  return drive || (path.size() > 1 && is_separator(path[0]) && is_separator(path[1]));
}

bool file_exists(const std::string& path) {
  const DWORD attributes = GetFileAttributesW(wide(path).c_str());
  return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) == 0;
}

void keep_loaded(const void* address) {
  HMODULE self = nullptr;
  GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS,
                     reinterpret_cast<LPCWSTR>(address), &self);
}

#else

#ifdef __APPLE__
const LibraryNames kNames = {"libc10.dylib", "libtorch_cpu.dylib", "libtorch_cuda.dylib",
                             "libcuda.dylib"};
#else
const LibraryNames kNames = {"libc10.so", "libtorch_cpu.so", "libtorch_cuda.so", "libcuda.so.1"};
#endif

void* open_library(const std::string& path) { return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); }

std::string open_error() {
  const char* text = dlerror();
  return text == nullptr ? "unknown error" : text;
}

void* find_symbol(void* library, const char* name) { return dlsym(library, name); }

bool is_absolute(const std::string& path) { return !path.empty() && path.front() == '/'; }

bool file_exists(const std::string& path) {
  FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return false;
  std::fclose(file);
  return true;
}

void keep_loaded(const void* address) {
  Dl_info self;
  if (dladdr(address, &self) != 0) dlopen(self.dli_fname, RTLD_NOW | RTLD_NODELETE | RTLD_NOLOAD);
}

#endif

}  // namespace posttrain::loader
