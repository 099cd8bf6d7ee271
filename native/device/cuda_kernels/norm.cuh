namespace posttrain::cuda {

template <class T, int N>
__device__ inline void rms_row(const RmsArguments& a, long long row) {
  const T* x = static_cast<const T*>(a.x_TD) + row * a.columns;
  const T* weight = static_cast<const T*>(a.weight_D);
  T* y = static_cast<T*>(a.y_TD) + row * a.columns;
  const int first = static_cast<int>(threadIdx.x) * N, step = static_cast<int>(blockDim.x) * N;
  float sum = 0;
  for (int i = first; i < a.columns; i += step) {
    float values[N];
    load<N>(x + i, values);
    for (int j = 0; j < N; ++j) sum += values[j] * values[j];
  }
  const float mean = block_sum(sum) / static_cast<float>(a.columns);
  const float r = 1.0f / sqrtf(mean + a.eps);
  if (threadIdx.x == 0) a.rstd_T[row] = r;
  for (int i = first; i < a.columns; i += step) {
    float values[N], w[N];
    load<N>(x + i, values);
    load<N>(weight + i, w);
    for (int j = 0; j < N; ++j) {
      // Without an offset transformers rounds what is normalized before the weight.
      values[j] = a.offset ? values[j] * r * (w[j] + 1) : rounded<T>(values[j] * r) * w[j];
    }
    store<N>(y + i, values);
  }
}

template <class T>
__device__ inline void rms(const RmsArguments& a) {
  const bool packs = in_packs<T>(a.x_TD, a.columns) && in_packs<T>(a.y_TD, a.columns) &&
                     in_packs<T>(a.weight_D, a.columns);
  for (long long row = blockIdx.x; row < a.rows; row += gridDim.x) {
    if (packs) {
      rms_row<T, kPack<T>>(a, row);
    } else {
      rms_row<T, 1>(a, row);
    }
  }
}

// dx = r (g - x r^2 mean(g x)), g = dy * w; dw = dy x r, summed in `sums` unless null
template <class T, int N>
__device__ inline void rms_backward_row(const RmsBackwardArguments& a, long long row, float* sums,
                                        bool first_row) {
  const T* x = static_cast<const T*>(a.x_TD) + row * a.columns;
  const T* dy = static_cast<const T*>(a.dy_TD) + row * a.columns;
  const T* weight = static_cast<const T*>(a.weight_D);
  T* dx = static_cast<T*>(a.dx_TD) + row * a.columns;
  const int first = static_cast<int>(threadIdx.x) * N, step = static_cast<int>(blockDim.x) * N;
  const float r = a.rstd_T[row], one = a.offset ? 1.0f : 0.0f;
  float dot = 0;
  for (int i = first; i < a.columns; i += step) {
    float values[N], d[N], w[N];
    load<N>(x + i, values);
    load<N>(dy + i, d);
    load<N>(weight + i, w);
    for (int j = 0; j < N; ++j) dot += d[j] * (w[j] + one) * values[j];
  }
  const float c = r * r * r * __fdividef(block_sum(dot), static_cast<float>(a.columns));
  for (int i = first; i < a.columns; i += step) {
    float values[N], d[N], w[N];
    load<N>(x + i, values);
    load<N>(dy + i, d);
    load<N>(weight + i, w);
    if (sums != nullptr) {
      for (int j = 0; j < N; ++j)
        sums[i + j] = (first_row ? 0.0f : sums[i + j]) + d[j] * values[j] * r;
    }
    for (int j = 0; j < N; ++j) values[j] = r * d[j] * (w[j] + one) - c * values[j];
    store<N>(dx + i, values);
  }
}

// A thread adds to the same columns in every row of its block.
template <class T>
__device__ inline void rms_backward(const RmsBackwardArguments& a) {
  const bool packs = in_packs<T>(a.x_TD, a.columns) && in_packs<T>(a.dy_TD, a.columns) &&
                     in_packs<T>(a.dx_TD, a.columns) && in_packs<T>(a.weight_D, a.columns);
  float* partial = a.partial_BD;
  if (partial != nullptr) partial += static_cast<long long>(blockIdx.x) * a.columns;
  float* sums = partial != nullptr && a.shared ? block_memory() : partial;
  for (long long row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const bool first_row = row == blockIdx.x;
    if (packs) {
      rms_backward_row<T, kPack<T>>(a, row, sums, first_row);
    } else {
      rms_backward_row<T, 1>(a, row, sums, first_row);
    }
  }
  if (sums == partial) return;
  const int width = packs ? kPack<T> : 1;
  const int step = static_cast<int>(blockDim.x) * width;
  for (int i = static_cast<int>(threadIdx.x) * width; i < a.columns; i += step)
    for (int j = i; j < i + width; ++j) partial[j] = sums[j];
}

// 32 columns a block; each warp sums every eighth block's row.
__device__ inline void rms_weight(const RmsWeightArguments& a) {
  __shared__ float sums[8][32];
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int column = static_cast<int>(blockIdx.x) * 32 + lane;
  float sum = 0;
  if (column < a.columns) {
    for (int block = warp; block < a.blocks; block += 8)
      sum += a.partial_BD[static_cast<long long>(block) * a.columns + column];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || column >= a.columns) return;
  for (int i = 1; i < 8; ++i) sum += sums[i][lane];
  a.dweight_D[column] += sum;
}

POSTTRAIN_KERNELS(rms, RmsArguments, 512)
POSTTRAIN_KERNELS(rms_backward, RmsBackwardArguments, 512)
POSTTRAIN_KERNEL_OF(rms_weight, float32, rms_weight, RmsWeightArguments, 256)

}  // namespace posttrain::cuda
