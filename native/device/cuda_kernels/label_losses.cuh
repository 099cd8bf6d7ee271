namespace posttrain::cuda {

/** Highest x of some, the sum of exp(x - highest), and that of exp(x - highest) (x - highest). */
struct Exponentials {
  float highest, sum, product;
};

// exp(x - to) (x - to) = exp(from - to) (exp(x - from) (x - from) + (from - to) exp(x - from)), the
// online softmax of Milakov & Gimelshein 2018 (arXiv 1805.02867) with its entropy
__device__ inline void raise(Exponentials& e, float highest) {
  if (e.sum != 0) {
    const float down = e.highest - highest, factor = expf(down);
    e.product = (e.product + e.sum * down) * factor;
    e.sum *= factor;
  }
  e.highest = highest;
}

__device__ inline void merge(Exponentials& e, Exponentials other) {
  if (other.sum == 0) return;
  if (e.sum == 0) {
    e = other;
    return;
  }
  if (other.highest > e.highest) raise(e, other.highest);
  if (other.highest < e.highest) raise(other, e.highest);
  e.sum += other.sum;
  e.product += other.product;
}

__device__ inline Exponentials block_merge(Exponentials e) {
  __shared__ Exponentials of_warps[32];
  const int warps = static_cast<int>(blockDim.x / 32);
  for (int lane = 16; lane > 0; lane /= 2) {
    const Exponentials other = {__shfl_down_sync(kAllLanes, e.highest, lane),
                                __shfl_down_sync(kAllLanes, e.sum, lane),
                                __shfl_down_sync(kAllLanes, e.product, lane)};
    merge(e, other);
  }
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = e;
  __syncthreads();
  e = of_warps[0];
  for (int i = 1; i < warps; ++i) merge(e, of_warps[i]);
  __syncthreads();
  return e;
}

template <int N>
__device__ inline Exponentials exponentials_of(const float* x, int from, int to) {
  Exponentials e = {-__int_as_float(0x7f800000), 0, 0};
  const int step = static_cast<int>(blockDim.x) * N;
  for (int i = from + static_cast<int>(threadIdx.x) * N; i < to; i += step) {
    float values[N];
    load<N>(x + i, values);
    float highest = values[0];
    for (int j = 1; j < N; ++j) highest = values[j] > highest ? values[j] : highest;
    if (highest > e.highest) raise(e, highest);
    for (int j = 0; j < N; ++j) {
      const float d = values[j] - e.highest, exponential = expf(d);
      e.sum += exponential;
      e.product += exponential * d;
    }
  }
  return e;
}

// p (factor - slope d), p = exp(d) / sum, d = x - highest, and -nll more for the target
struct LabelGradient {
  float highest, factor, slope, nll;
  int target;
};

template <class T, int N>
__device__ inline void gradient_row(const LabelGradient& g, const float* x, T* dx, int from,
                                    int to) {
  const int step = static_cast<int>(blockDim.x) * N;
  for (int i = from + static_cast<int>(threadIdx.x) * N; i < to; i += step) {
    float values[N];
    load<N>(x + i, values);
    for (int j = 0; j < N; ++j) {
      const float d = values[j] - g.highest;
      values[j] = expf(d) * (g.factor - g.slope * d) - (i + j == g.target ? g.nll : 0.0f);
    }
    store<N>(dx + i, values);
  }
}

// A logit that is not finite makes the entropy NaN, through infinity - infinity or 0 * infinity,
// and with it the losses and the gradient of its row.
template <class T>
__device__ inline void label_losses(const LabelLossesArguments& a) {
  const bool packs = in_packs<float>(a.logits_CV, a.stride);
  const bool both = packs && in_packs<T>(a.dlogits_CV, a.dlogits_stride);
  const int whole = a.columns / 4 * 4;
  for (int row = static_cast<int>(blockIdx.x); row < a.rows; row += static_cast<int>(gridDim.x)) {
    const float* x = a.logits_CV + row * a.stride;
    const int target = static_cast<int>(a.targets_C[row]);
    const float of_target = x[target];
    auto e = packs ? exponentials_of<4>(x, 0, whole) : exponentials_of<1>(x, 0, whole);
    merge(e, exponentials_of<1>(x, whole, a.columns));
    // All threads have read the row when its gradient takes its place.
    e = block_merge(e);
    const float log_sum = logf(e.sum), entropy = log_sum - e.product / e.sum;
    const float nothing = entropy - entropy;
    if (threadIdx.x == 0) {
      double* losses = a.losses_3C + row;
      losses[0] = log_sum - (of_target - e.highest) + nothing;
      losses[a.loss_stride] = entropy;
      losses[2 * a.loss_stride] = of_target == e.highest && nothing == 0 ? 1 : 0;
    }
    if (a.scales_2C == nullptr) continue;
    // d H / dx = -p (log p + H), log p = d - log(sum)
    const auto of_nll = static_cast<float>(a.scales_2C[row]);
    const auto of_entropy = static_cast<float>(a.scales_2C[a.scale_stride + row]);
    const LabelGradient gradient = {e.highest,
                                    (of_nll - of_entropy * (entropy - log_sum)) / e.sum + nothing,
                                    of_entropy / e.sum, of_nll, target};
    T* dx = static_cast<T*>(a.dlogits_CV) + row * a.dlogits_stride;
    if (both) {
      gradient_row<T, 4>(gradient, x, dx, 0, whole);
      gradient_row<T, 1>(gradient, x, dx, whole, a.columns);
    } else {
      gradient_row<T, 1>(gradient, x, dx, 0, a.columns);
    }
  }
}

POSTTRAIN_KERNELS(label_losses, LabelLossesArguments, 512)

}  // namespace posttrain::cuda
