#pragma once
#include <ATen/ATen.h>

#include <optional>
#include <string>

#include "device/kernels.h"

namespace posttrain::nn {

/** Kinds as in Hugging Face configs: linear divides positions by the factor; yarn is Peng et al.
 * 2023, arXiv 2309.00071. */
enum class RopeKind { plain, linear, llama3, yarn };
RopeKind rope_kind_of(const std::string& name);

/**
 * Rotary position embedding (Su et al. 2021, arXiv 2104.09864) of the first d components of a head.
 * In the half-split layout component i rotates with component i + d/2, interleaved component 2i
 * with 2i + 1. Fields are Hugging Face's.
 */
struct RopeSpec {
  RopeKind kind = RopeKind::plain;
  double theta = 10000;
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  double original_max_positions = 0;
  double beta_fast = 32;
  double beta_slow = 1;
  /** Absent: derived from the factor (yarn). */
  std::optional<double> attention_factor;
  std::optional<double> mscale;
  std::optional<double> mscale_all_dim;
  bool truncate = true;
  /** d; absent: the whole head. */
  std::optional<int64_t> rotary_dim;
  bool interleaved = false;

  bool operator==(const RopeSpec&) const = default;
};

/** Cosines and sines by position, [positions, d/2], grown on demand. */
class Rotary {
 public:
  Rotary(const RopeSpec& spec, int64_t head_dim, at::Device device, at::ScalarType dtype,
         const device::Kernels* kernels);
  /** Extends the tables to all positions below `positions`. */
  void reserve(int64_t positions);
  /** Rotates the first `heads` heads of each row of x [T, W], in place; row t is at position
   * positions[t]. `inverse` rotates back. */
  void apply(const at::Tensor& x_TW, const at::Tensor& positions_T, int64_t heads,
             bool inverse) const;

 private:
  const device::Kernels* kernels_;
  int64_t head_dim_;
  int64_t rotary_dim_;
  bool interleaved_;
  at::Tensor inverse_frequency_;  // [d/2], float32 on the CPU
  double attention_factor_ = 1;
  at::Device device_;
  at::ScalarType dtype_;
  at::Tensor cos_PD_, sin_PD_;
};

/** Frequencies [d/2] in float32, and the factor on cosine and sine. */
std::pair<at::Tensor, double> rope_frequencies(const RopeSpec& spec, int64_t rotary_dim);

}  // namespace posttrain::nn
