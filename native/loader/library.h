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

/** Opens a library with all symbols resolved and none of them global; null on failure. */
void* open_library(const std::string& path);
/** Reason why the last open_library failed. */
std::string open_error();
void* find_symbol(void* library, const char* name);
/** True where opening the path opens that very file: relative ones are searched for elsewhere. */
bool is_absolute(const std::string& path);
bool file_exists(const std::string& path);
/** Keeps the library that contains this address loaded until the process ends. */
void keep_loaded(const void* address);

}  // namespace posttrain::loader
