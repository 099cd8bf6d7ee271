// Arguments of the kernels, one struct a kernel: read by the host and by the kernels, so that it
// includes nothing. Pointers are to memory of the device; T rows (tokens), D columns.
#pragma once

namespace posttrain::cuda {

struct RmsArguments {
  const void *x_TD, *weight_D;
  void* y_TD;
  float* rstd_T;
  long long rows;
  int columns, offset;
  float eps;
};

struct RmsBackwardArguments {
  const void *x_TD, *dy_TD, *weight_D;
  const float* rstd_T;
  void* dx_TD;
  /** [blocks, D]: the weight's gradient of the rows of each block; null: none. */
  float* partial_BD;
  long long rows;
  int columns, offset;
  /** Sums in shared memory, of columns * 4 bytes, instead of in `partial`. */
  int shared;
};

struct RmsWeightArguments {
  const float* partial_BD;
  float* dweight_D;
  int blocks, columns;
};

struct RopeArguments {
  void* x_TW;
  /** Elements from one row to the next. */
  long long stride;
  const long long* positions_T;
  const void *cos_PH, *sin_PH;
  long long rows;
  int heads, head_dim, half, interleaved;
  /** -1 rotates back. */
  float sign;
};

struct SwigluArguments {
  const void* gate_up_T2I;
  const void* dy_TI;  // of the backward
  /** y [T, I], or the gradient of gate_up. */
  void* out;
  long long rows;
  int columns;
};

struct LabelLossesArguments {
  const float* logits_CV;
  const long long* targets_C;
  /** [2, C]: factors of the two gradients; null: none. */
  const double* scales_2C;
  /** [3, C]: -log softmax(x)[target], entropy, and 1 where the target is the most probable. */
  double* losses_3C;
  /** May be the logits. */
  void* dlogits_CV;
  /** Elements from one row to the next. */
  long long stride, scale_stride, loss_stride, dlogits_stride;
  int rows, columns;
};

struct DropoutArguments {
  void* mask;
  long long count;
  unsigned key[2];
  unsigned stream, purpose;
  /** Bits below it are dropped. */
  unsigned long long dropped;
  float kept;
};

struct Nf4Arguments {
  const unsigned char* codes;
  /** float32 [blocks], or uint8 where `scale_code` is not null. */
  const void* scales;
  const float *scale_code, *scale_scales;
  float scale_offset;
  void* out;
  long long count;
};

struct AddRowsArguments {
  float* grad_VD;
  const long long* ids_T;
  const void* dy_TD;
  /** -1: none. */
  long long padding_id;
  long long rows;
  int columns;
};

}  // namespace posttrain::cuda
