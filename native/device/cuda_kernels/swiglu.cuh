namespace posttrain::cuda {

__device__ inline float sigmoid(float x) { return __fdividef(1.0f, 1.0f + expf(-x)); }

template <class T, int N>
__device__ inline void swiglu_row(const SwigluArguments& a, long long row, int i) {
  const T* gates = static_cast<const T*>(a.gate_up_T2I) + 2 * row * a.columns;
  float gate[N], up[N];
  load<N>(gates + i, gate);
  load<N>(gates + a.columns + i, up);
  for (int j = 0; j < N; ++j) up[j] *= gate[j] * sigmoid(gate[j]);
  store<N>(static_cast<T*>(a.out) + row * a.columns + i, up);
}

template <class T, int N>
__device__ inline void swiglu_backward_row(const SwigluArguments& a, long long row, int i) {
  const T* gates = static_cast<const T*>(a.gate_up_T2I) + 2 * row * a.columns;
  T* out = static_cast<T*>(a.out) + 2 * row * a.columns;
  float gate[N], up[N], dy[N];
  load<N>(gates + i, gate);
  load<N>(gates + a.columns + i, up);
  load<N>(static_cast<const T*>(a.dy_TI) + row * a.columns + i, dy);
  for (int j = 0; j < N; ++j) {
    const float s = sigmoid(gate[j]);
    const float dgate = dy[j] * up[j] * s * (1 + gate[j] * (1 - s));
    up[j] = dy[j] * gate[j] * s;
    gate[j] = dgate;
  }
  store<N>(out + i, gate);
  store<N>(out + a.columns + i, up);
}

// Rows are blocks of x, their columns those of y.
template <class Row>
__device__ inline void over_columns(long long rows, int columns, int width, Row row_of) {
  const int first = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x) * width;
  const int step = static_cast<int>(gridDim.y * blockDim.x) * width;
  for (long long row = blockIdx.x; row < rows; row += gridDim.x)
    for (int i = first; i < columns; i += step) row_of(row, i);
}

template <class T>
__device__ inline void swiglu(const SwigluArguments& a) {
  if (in_packs<T>(a.gate_up_T2I, a.columns) && in_packs<T>(a.out, a.columns)) {
    over_columns(a.rows, a.columns, kPack<T>,
                 [&](long long row, int i) { swiglu_row<T, kPack<T>>(a, row, i); });
  } else {
    over_columns(a.rows, a.columns, 1, [&](long long row, int i) { swiglu_row<T, 1>(a, row, i); });
  }
}

template <class T>
__device__ inline void swiglu_backward(const SwigluArguments& a) {
  if (in_packs<T>(a.gate_up_T2I, a.columns) && in_packs<T>(a.out, a.columns) &&
      in_packs<T>(a.dy_TI, a.columns)) {
    over_columns(a.rows, a.columns, kPack<T>,
                 [&](long long row, int i) { swiglu_backward_row<T, kPack<T>>(a, row, i); });
  } else {
    over_columns(a.rows, a.columns, 1,
                 [&](long long row, int i) { swiglu_backward_row<T, 1>(a, row, i); });
  }
}

POSTTRAIN_KERNELS(swiglu, SwigluArguments, 256)
POSTTRAIN_KERNELS(swiglu_backward, SwigluArguments, 256)

}  // namespace posttrain::cuda
