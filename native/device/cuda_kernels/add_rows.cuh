namespace posttrain::cuda {

// The block of the first token with an id adds the rows of all that have it, in their order.
template <class T>
__device__ inline void add_rows(const AddRowsArguments& a) {
  __shared__ int same[256];
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  for (long long row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const long long id = a.ids_T[row];
    if (id == a.padding_id) continue;
    int before = 0;
    for (long long i = thread; i < row; i += threads) before |= a.ids_T[i] == id;
    if (__syncthreads_or(before)) continue;
    float* grad = a.grad_VD + id * a.columns;
    for (long long from = row; from < a.rows; from += threads) {
      const int mine = from + thread < a.rows && a.ids_T[from + thread] == id;
      if (!__syncthreads_or(mine)) continue;
      same[thread] = mine;
      __syncthreads();
      for (int i = 0; i < threads; ++i) {
        if (!same[i]) continue;
        const T* dy = static_cast<const T*>(a.dy_TD) + (from + i) * a.columns;
        for (int column = thread; column < a.columns; column += threads)
          grad[column] += value_of(dy[column]);
      }
      __syncthreads();
    }
  }
}

POSTTRAIN_KERNELS(add_rows, AddRowsArguments, 256)

}  // namespace posttrain::cuda
