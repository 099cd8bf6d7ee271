// Kernels of CUDA that include nothing: nvcc compiles them into the core, NVRTC where that lacks a
// device's architecture, and the compiler of the tests for a block emulator. Sums are float32 and
// of one order: a result depends on its arguments alone.

namespace posttrain::cuda {

struct BFloat16 {
  unsigned short bits;
};
struct Half {
  unsigned short bits;
};

#ifdef __CUDACC__
__device__ inline float half_value(unsigned short bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}
__device__ inline unsigned short half_bits(float x) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
/** Writes words to global memory at once: the compiler takes the copy of a struct apart. */
__device__ inline void write_words(void* to, unsigned a, unsigned b) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(a), "r"(b) : "memory");
}
__device__ inline void write_words(void* to, unsigned a, unsigned b, unsigned c, unsigned d) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}
/** Memory that the launch gives to each block. */
__device__ inline float* block_memory() {
  extern __shared__ float memory[];
  return memory;
}
/** A kernel posttrain_NAME_DTYPE for blocks of at most THREADS threads, whole warps. */
#define POSTTRAIN_KERNEL_OF(NAME, DTYPE, CALL, ARGUMENTS, THREADS)                                \
  extern "C" __global__ void __launch_bounds__(THREADS) posttrain_##NAME##_##DTYPE(ARGUMENTS a) { \
    CALL(a);                                                                                      \
  }
#endif

/** Kernels posttrain_NAME_float32, _bfloat16 and _float16. */
#define POSTTRAIN_KERNELS(NAME, ARGUMENTS, THREADS)                       \
  POSTTRAIN_KERNEL_OF(NAME, float32, NAME<float>, ARGUMENTS, THREADS)     \
  POSTTRAIN_KERNEL_OF(NAME, bfloat16, NAME<BFloat16>, ARGUMENTS, THREADS) \
  POSTTRAIN_KERNEL_OF(NAME, float16, NAME<Half>, ARGUMENTS, THREADS)

__device__ inline float value_of(float x) { return x; }
__device__ inline float value_of(BFloat16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}
__device__ inline float value_of(Half x) { return half_value(x.bits); }

// To the nearest value, ties to the even one
__device__ inline void round_to(float x, float& to) { to = x; }
__device__ inline void round_to(float x, BFloat16& to) {
  const unsigned bits = __float_as_uint(x);
  to.bits =
      x != x ? 0x7fc0 : static_cast<unsigned short>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
__device__ inline void round_to(float x, Half& to) { to.bits = half_bits(x); }

template <class T>
__device__ inline float rounded(float x) {
  T value;
  round_to(x, value);
  return value_of(value);
}

/** Values of 16 bytes, which a thread reads or writes at once where they are aligned. */
template <class T>
constexpr int kPack = 16 / static_cast<int>(sizeof(T));

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
};

template <int N, class T>
__device__ inline void load(const T* from, float (&to)[N]) {
  const auto pack = *reinterpret_cast<const Pack<T, N>*>(from);
  for (int i = 0; i < N; ++i) to[i] = value_of(pack.values[i]);
}

template <class T>
__device__ inline unsigned word_of(const float* values);
template <>
__device__ inline unsigned word_of<float>(const float* values) {
  return __float_as_uint(values[0]);
}
template <>
__device__ inline unsigned word_of<BFloat16>(const float* values) {
  BFloat16 low, high;
  round_to(values[0], low);
  round_to(values[1], high);
  return low.bits | static_cast<unsigned>(high.bits) << 16;
}
template <>
__device__ inline unsigned word_of<Half>(const float* values) {
  return half_bits(values[0]) | static_cast<unsigned>(half_bits(values[1])) << 16;
}

template <int N, class T>
__device__ inline void store(T* to, const float (&from)[N]) {
  constexpr int kOfWord = 4 / static_cast<int>(sizeof(T)), kWords = N / kOfWord;
  if constexpr (kWords == 4) {
    write_words(to, word_of<T>(from), word_of<T>(from + kOfWord), word_of<T>(from + 2 * kOfWord),
                word_of<T>(from + 3 * kOfWord));
  } else if constexpr (kWords == 2) {
    write_words(to, word_of<T>(from), word_of<T>(from + kOfWord));
  } else {
    static_assert(N == 1);
    round_to(from[0], *to);
  }
}

template <class T>
__device__ inline bool in_packs(const void* pointer, long long stride) {
  return reinterpret_cast<unsigned long long>(pointer) % 16 == 0 && stride % kPack<T> == 0;
}

constexpr unsigned kAllLanes = 0xffffffffu;

/** Sum over the threads of a block, for each of them. */
__device__ inline float block_sum(float x) {
  __shared__ float of_warps[32];
  const int warps = static_cast<int>(blockDim.x / 32);
  for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(kAllLanes, x, lane);
  if (warps == 1) return x;
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < warps; ++i) sum += of_warps[i];
  __syncthreads();
  return sum;
}

}  // namespace posttrain::cuda
