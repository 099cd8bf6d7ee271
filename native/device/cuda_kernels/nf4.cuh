namespace posttrain::cuda {

/** kNf4 of device/nf4.h. */
__device__ const float kNormalFloat[16] = {POSTTRAIN_NF4_VALUES};

// Rounded after each operation, as on every device
__device__ inline float nf4_scale(const Nf4Arguments& a, long long block) {
  if (a.scale_code == nullptr) return static_cast<const float*>(a.scales)[block];
  const float scale = a.scale_code[static_cast<const unsigned char*>(a.scales)[block]];
  return __fadd_rn(__fmul_rn(scale, a.scale_scales[block / 256]), a.scale_offset);
}

// Eight values of four bytes a thread, all of one block of 64
template <class T>
__device__ inline void nf4(const Nf4Arguments& a) {
  T* out = static_cast<T*>(a.out);
  const long long step = static_cast<long long>(gridDim.x) * blockDim.x * 8;
  const bool packs = in_packs<T>(out, 0) && in_packs<T>(a.codes, 0);
  for (long long i = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * 8;
       i < a.count; i += step) {
    const float scale = nf4_scale(a, i / 64);
    if (packs && i + 8 <= a.count) {
      const auto bytes = *reinterpret_cast<const Pack<unsigned char, 4>*>(a.codes + i / 2);
      float values[8];
      for (int j = 0; j < 4; ++j) {
        values[2 * j] = kNormalFloat[bytes.values[j] >> 4] * scale;
        values[2 * j + 1] = kNormalFloat[bytes.values[j] & 15] * scale;
      }
      constexpr int N = kPack<T>;
      for (int j = 0; j < 8; j += N) {
        float pack[N];
        for (int k = 0; k < N; ++k) pack[k] = values[j + k];
        store<N>(out + i + j, pack);
      }
    } else {
      for (long long j = i; j < i + 8 && j < a.count; ++j) {
        const int code = j % 2 == 0 ? a.codes[j / 2] >> 4 : a.codes[j / 2] & 15;
        round_to(kNormalFloat[code] * scale, out[j]);
      }
    }
  }
}

POSTTRAIN_KERNELS(nf4, Nf4Arguments, 256)

}  // namespace posttrain::cuda
