namespace posttrain::cuda {

// x[i], x[i + half] -> x[i] c - x[i + half] s, x[i + half] c + x[i] s of every head; interleaved
// the pairs are x[2 i] and x[2 i + 1].
template <class T, int N>
__device__ inline void rope_row(const RopeArguments& a, long long row) {
  T* x = static_cast<T*>(a.x_TW) + row * a.stride;
  const long long table = a.positions_T[row] * a.half;
  const T* cos = static_cast<const T*>(a.cos_PH) + table;
  const T* sin = static_cast<const T*>(a.sin_PH) + table;
  const int of_head = a.half / N;
  for (int k = static_cast<int>(threadIdx.x); k < a.heads * of_head;
       k += static_cast<int>(blockDim.x)) {
    const int i = k % of_head * N;
    T* head = x + k / of_head * a.head_dim;
    T* first = a.interleaved ? head + 2 * i : head + i;
    T* second = a.interleaved ? first + 1 : first + a.half;
    float c[N], s[N], p[N], q[N];
    load<N>(cos + i, c);
    load<N>(sin + i, s);
    load<N>(first, p);
    load<N>(second, q);
    for (int j = 0; j < N; ++j) {
      const float before = p[j], sine = a.sign * s[j];
      p[j] = before * c[j] - q[j] * sine;
      q[j] = q[j] * c[j] + before * sine;
    }
    store<N>(first, p);
    store<N>(second, q);
  }
}

template <class T>
__device__ inline void rope(const RopeArguments& a) {
  const bool packs = !a.interleaved && in_packs<T>(a.x_TW, a.stride) &&
                     in_packs<T>(a.cos_PH, a.half) && in_packs<T>(a.sin_PH, a.head_dim);
  for (long long row = blockIdx.x; row < a.rows; row += gridDim.x) {
    if (packs) {
      rope_row<T, kPack<T>>(a, row);
    } else {
      rope_row<T, 1>(a, row);
    }
  }
}

POSTTRAIN_KERNELS(rope, RopeArguments, 256)

}  // namespace posttrain::cuda
