// Opening shared libraries by absolute path, the same on Linux, macOS and Windows.
#pragma once

#include <string>

namespace posttrain::loader {

/** File names of libtorch on this platform. */
struct LibraryNames {
  const char* c10;
  const char* torch_cpu;
  const char* torch_cuda;
  /** NVIDIA's driver, looked up by the system. */
  const char* driver;
};
extern const LibraryNames kNames;

/** Opens with all symbols resolved and none of them global; null where that fails. */
void* open_library(const std::string& path);
/** Why the last open_library failed. */
std::string open_error();
void* find_symbol(void* library, const char* name);
/** Opens no other file than the one that is named: relative paths are searched for elsewhere. */
bool is_absolute(const std::string& path);
bool file_exists(const std::string& path);
/** Keeps the library that contains this address until the process ends. */
void keep_loaded(const void* address);

}  // namespace posttrain::loader
