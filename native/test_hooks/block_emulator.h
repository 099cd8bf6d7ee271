#pragma once
// The language of CUDA's kernels for the compiler of the tests: blocks run one after another, and
// the threads of a block as fibers that take turns at barriers.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace posttrain::emulator {

struct Index {
  unsigned x = 1, y = 1, z = 1;
};

/** Of the thread that runs. */
extern Index thread, block, block_size, grid_size;

/** A kernel of one argument, by name; registers itself. */
struct Kernel {
  Kernel(const char* name, int most_threads, void (*run)(const void* arguments));
  static const Kernel* find(const std::string& name);

  int most_threads;
  void (*run)(const void* arguments);
};

/** Runs every block of a grid. Throws std::runtime_error where a device would hang or refuse: a
 * barrier that not all threads reach, too many threads, memory of a block that is overrun. */
void launch(const Kernel& kernel, Index grid, Index threads, size_t shared_bytes,
            const void* arguments);

float* block_memory();
/** Waits for all threads of the block; whether one of them gave a value other than 0. */
bool barrier(bool value);
/** The value of another lane of the warp, after all of them gave theirs. */
float exchange(float value, int lane);

inline int lane() { return static_cast<int>(thread.x % 32); }

/** Notes a write at once, which a device makes to aligned addresses only. */
void written(const void* to, size_t bytes);

template <class To, class From>
To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

}  // namespace posttrain::emulator

#define __device__
#define __shared__ static
#define threadIdx ::posttrain::emulator::thread
#define blockIdx ::posttrain::emulator::block
#define blockDim ::posttrain::emulator::block_size
#define gridDim ::posttrain::emulator::grid_size

#define POSTTRAIN_KERNEL_OF(NAME, DTYPE, CALL, ARGUMENTS, THREADS) \
  const ::posttrain::emulator::Kernel NAME##_##DTYPE(              \
      "posttrain_" #NAME "_" #DTYPE, THREADS,                      \
      [](const void* arguments) { CALL(*static_cast<const ARGUMENTS*>(arguments)); });

namespace posttrain::cuda {

inline void __syncthreads() { emulator::barrier(false); }
inline int __syncthreads_or(int value) { return emulator::barrier(value != 0); }
inline float __shfl_xor_sync(unsigned, float value, int mask) {
  return emulator::exchange(value, emulator::lane() ^ mask);
}
inline float __shfl_down_sync(unsigned, float value, int by) {
  const int from = emulator::lane() + by;
  return emulator::exchange(value, from < 32 ? from : emulator::lane());
}

inline float __uint_as_float(unsigned bits) { return emulator::bits_as<float>(bits); }
inline unsigned __float_as_uint(float x) { return emulator::bits_as<unsigned>(x); }
inline float __int_as_float(int bits) { return emulator::bits_as<float>(bits); }
inline float __fdividef(float a, float b) { return a / b; }
// Volatile: the compiler may not make one operation of two.
inline float __fmul_rn(float a, float b) {
  volatile float product = a * b;
  return product;
}
inline float __fadd_rn(float a, float b) { return a + b; }

float half_value(unsigned short bits);
unsigned short half_bits(float x);
inline float* block_memory() { return emulator::block_memory(); }
inline void write_words(void* to, unsigned a, unsigned b) {
  const unsigned words[] = {a, b};
  emulator::written(to, sizeof(words));
  std::memcpy(to, words, sizeof(words));
}
inline void write_words(void* to, unsigned a, unsigned b, unsigned c, unsigned d) {
  const unsigned words[] = {a, b, c, d};
  emulator::written(to, sizeof(words));
  std::memcpy(to, words, sizeof(words));
}

}  // namespace posttrain::cuda
