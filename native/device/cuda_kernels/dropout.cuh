namespace posttrain::cuda {

/** Philox4x32-10 (Salmon et al. 2011, 'Parallel random numbers: as easy as 1, 2, 3'). */
__device__ inline void philox(unsigned (&counter)[4], unsigned key0, unsigned key1) {
  for (int round = 0; round < 10; ++round) {
    const unsigned long long x = 0xD2511F53ull * counter[0], y = 0xCD9E8D57ull * counter[2];
    counter[0] = static_cast<unsigned>(y >> 32) ^ counter[1] ^ key0;
    counter[1] = static_cast<unsigned>(y);
    counter[2] = static_cast<unsigned>(x >> 32) ^ counter[3] ^ key1;
    counter[3] = static_cast<unsigned>(x);
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
}

// 0 or 1 / (1 - p), of which four come from one counter
template <class T>
__device__ inline void dropout(const DropoutArguments& a) {
  T* mask = static_cast<T*>(a.mask);
  const long long step = static_cast<long long>(gridDim.x) * blockDim.x * 4;
  for (long long i = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * 4;
       i < a.count; i += step) {
    const auto block = static_cast<unsigned long long>(i / 4);
    unsigned bits[4] = {static_cast<unsigned>(block), static_cast<unsigned>(block >> 32), a.stream,
                        a.purpose};
    philox(bits, a.key[0], a.key[1]);
    float values[4];
    for (int j = 0; j < 4; ++j) values[j] = bits[j] < a.dropped ? 0.0f : a.kept;
    if (i + 4 <= a.count) {
      store<4>(mask + i, values);
    } else {
      for (int j = 0; i + j < a.count; ++j) round_to(values[j], mask[i + j]);
    }
  }
}

POSTTRAIN_KERNELS(dropout, DropoutArguments, 256)

}  // namespace posttrain::cuda
