#pragma once
#include <ATen/ATen.h>

#include <string>

namespace posttrain::nn {

/**
 * Rotary position embedding (Su et al. 2021, arXiv 2104.09864) in the half-split layout: component
 * i turns with component i + d/2. Kinds and fields are Hugging Face's: default, linear (positions /
 * factor), llama3, yarn (Peng et al. 2023, arXiv 2309.00071).
 */
struct RopeSpec {
  std::string kind = "default";
  double theta = 10000;
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  double original_max_positions = 0;
  double beta_fast = 32;
  double beta_slow = 1;
  /** 0: derived from the factor (yarn). */
  double attention_factor = 0;
  double mscale = 0;
  double mscale_all_dim = 0;
  bool truncate = true;

  bool operator==(const RopeSpec&) const = default;
};

/** Cosines and sines by position, [positions, d/2], grown on demand. */
class Rotary {
 public:
  Rotary(const RopeSpec& spec, int64_t head_dim, at::Device device, at::ScalarType dtype);
  /** Makes the tables long enough for positions below `positions`. */
  void reserve(int64_t positions);
  /** Turns the first `heads` heads of each row of x [T, W], in place; row t is at position
   * positions[t]. `inverse` turns back. */
  void apply(const at::Tensor& x_TW, const at::Tensor& positions_T, int64_t heads,
             bool inverse) const;

 private:
  int64_t head_dim_;
  at::Tensor inverse_frequency_;  // [d/2], float32 on the CPU
  double attention_factor_ = 1;
  at::Device device_;
  at::ScalarType dtype_;
  at::Tensor cos_PD_, sin_PD_;
};

/** Frequencies [d/2] in float32, and the factor on cosine and sine. */
std::pair<at::Tensor, double> rope_frequencies(const RopeSpec& spec, int64_t head_dim);

}  // namespace posttrain::nn
